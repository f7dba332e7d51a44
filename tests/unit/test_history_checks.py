"""The checks of histories see what they look for, and nothing else.

Each history is written out by hand: what three clients asked of a store, when, and what
they were told.
"""

from __future__ import annotations

from tests.histories.check_cycles import check_cycles
from tests.histories.check_delivery import check_delivery
from tests.histories.check_keys import check_keys
from tests.histories.check_log import check_log
from tests.histories.check_order import check_order
from tests.histories.check_streams import check_streams
from tests.histories.check_waits import check_waits
from tests.histories.checks import check
from tests.histories.log import Log
from tests.histories.history import (
    Append,
    Begun,
    Delivered,
    Done,
    Entry,
    Followed,
    Following,
    HeadRead,
    History,
    LogRead,
    Refused,
    SnapshotRead,
    StreamRead,
    Unclear,
    Unfollowed,
    VersionRead,
    decoded,
    encode,
)

NUMBERS = iter(range(1_000_000))


def log_of(*commits):
    """A log: each commit is its name and the streams of its events."""
    entries, versions = [], {}
    for name, *streams in commits:
        for index, stream in enumerate(streams):
            versions[stream] = versions.get(stream, 0) + 1
            value = f"{name} {index}/{len(streams)}"
            position = len(entries) + 1
            entries.append(Entry(position, stream, versions[stream], value))
    return Log(entries)


def begun(name, streams, at, expect=None, key=None):
    events = tuple((s, f"{name} {i}/{len(streams)}") for i, s in enumerate(streams))
    return Begun(next(NUMBERS), 0, at, events, expect or {}, key)


def done(name, streams, times, first, versions, *, replayed=False, **asked):
    """An append that was answered."""
    last = None if first is None else first + len(streams) - 1
    line = begun(name, streams, times[0], **asked)
    answer = Done(line.number, times[1], first, last, versions, replayed)
    return Append("p", line, answer)


def lost(name, streams, at, **asked):
    """An append that was never answered."""
    return Append("p", begun(name, streams, at, **asked))


def refused(name, streams, times, *failures, kind="VersionConflict", **asked):
    line = begun(name, streams, times[0], **asked)
    return Append("p", line, Refused(line.number, times[1], kind, failures))


def history(*operations):
    appends = [one for one in operations if isinstance(one, Append)]
    reads = [("q", one) for one in operations if not isinstance(one, Append)]
    return History(appends, reads)


A1 = ("p.1", "a")
B1 = ("p.2", "b")
FIRST = done("p.1", ["a"], (10, 20), 1, {"a": 1})
SECOND = done("p.2", ["b"], (30, 40), 2, {"b": 1})


def texts(findings):
    return " | ".join(map(str, findings))


# --- what is fine


def test_answers_that_agree_with_the_log_are_fine():
    told = history(
        FIRST,
        SECOND,
        StreamRead(0, 25, 50, "a", 0, log_of(A1, B1).entries),
        SnapshotRead(0, 41, 50, 2, {"a": 1, "b": 1}, tuple(log_of(A1, B1).entries)),
        VersionRead(0, 15, 16, "b", 0),
        LogRead(0, 42, 43, 1, (Entry(2, "b", 1, "p.2 0/1"),)),
        HeadRead(0, 1, 2, 0),
        refused("p.3", ["a"], (50, 60), ("a", 0, 1), expect={"a": 0}),
        done("", [], (50, 60), None, {}, expect={"a": 1, "c": "no_stream"}),
    )
    told.reads[0] = (
        "q",
        StreamRead(0, 25, 50, "a", 0, (Entry(1, "a", 1, "p.1 0/1"),)),
    )
    assert check(told, log_of(A1, B1)) == []


def test_what_was_never_answered_may_be_there_or_not():
    told = history(FIRST, lost("p.2", ["b"], 5))
    assert check(told, log_of(A1)) == []
    assert check(told, log_of(A1, B1)) == []
    line = begun("p.2", ["b"], 5)
    unclear = Append("p", line, Unclear(line.number, 8))
    assert check(history(FIRST, unclear), log_of(A1, B1)) == []


def test_a_later_part_of_a_log_goes_on_from_the_earlier():
    whole = log_of(A1, ("p.2", "a"))
    early = Log(whole.entries[:1])
    late = Log(whole.entries[1:], early.head, early.contents_after())
    told = history(
        done("p.2", ["a"], (30, 40), 2, {"a": 2}, expect={"a": 1}),
        StreamRead(0, 25, 50, "a", 0, tuple(whole.entries)),
        VersionRead(0, 25, 29, "a", 1),
    )
    assert check(told, late) == []
    stale = history(*(a for a in told.appends), VersionRead(0, 45, 50, "a", 1))
    assert "order" in texts(check_order(stale, late))
    assert "streams" in texts(check_streams(stale, late.contents))


# --- the log


def test_an_acknowledged_commit_that_is_not_there_is_lost():
    [found] = check_log(history(FIRST, SECOND), log_of(A1))
    assert (found.kind, found.by) == ("lost", "log")


def test_half_a_commit_is_torn():
    log = Log([Entry(1, "a", 1, "p.1 0/2")])
    [found] = check_log(history(lost("p.1", ["a", "b"], 1)), log)
    assert found.kind == "torn"


def test_a_commit_that_others_stand_in_is_torn():
    log = Log(
        [
            Entry(1, "a", 1, "p.1 0/2"),
            Entry(2, "b", 1, "p.2 0/1"),
            Entry(3, "a", 2, "p.1 1/2"),
        ]
    )
    told = history(lost("p.1", ["a", "a"], 1), lost("p.2", ["b"], 1))
    assert {found.kind for found in check_log(told, log)} == {"torn"}


def test_gaps_are_wrong():
    log = Log([Entry(1, "a", 1, "p.1 0/1"), Entry(3, "b", 2, "p.2 0/1")])
    told = history(lost("p.1", ["a"], 1), lost("p.2", ["b"], 1))
    assert [f.kind for f in check_log(told, log)] == ["wrong", "wrong"]


def test_what_was_refused_or_never_asked_for_must_not_be_there():
    no = refused("p.1", ["a"], (1, 2), ("a", 3, 0), expect={"a": 3})
    assert "was refused" in texts(check_log(history(no), log_of(A1)))
    assert "never asked for" in texts(check_log(history(), log_of(A1)))


# --- the order


def test_a_read_that_misses_what_was_acknowledged_is_stale():
    told = history(FIRST, VersionRead(0, 21, 22, "a", 0))
    assert "had been told of 1" in texts(check_order(told, log_of(A1)))
    assert check_streams(told) != []
    assert check_cycles(told, log_of(A1)) != []


def test_a_read_that_misses_what_another_reader_saw_is_stale():
    told = history(
        lost("p.1", ["a"], 10), HeadRead(0, 21, 22, 1), VersionRead(0, 30, 31, "a", 0)
    )
    assert "had been told of 1" in texts(check_order(told, log_of(A1)))


def test_what_was_delivered_is_seen_by_all_who_ask_after():
    told = history(lost("p.1", ["a"], 10), HeadRead(0, 30, 31, 0))
    following = Followed("r", Following(1, 0))
    following.delivered.append(Delivered(1, 25, Entry(1, "a", 1, "p.1 0/1")))
    told.followed.append(following)
    assert "a delivery of 1" in texts(check_order(told, log_of(A1)))


def test_positions_must_agree_with_time():
    told = history(
        done("p.2", ["b"], (10, 20), 2, {"b": 1}),
        done("p.1", ["a"], (30, 40), 1, {"a": 1}),
    )
    assert "p.2" in texts(check_order(told, log_of(A1, B1)))


def test_a_commit_can_not_come_before_it_was_asked_for():
    told = history(FIRST, lost("p.2", ["b"], 30), HeadRead(0, 21, 22, 2))
    assert check_order(told, log_of(A1, B1)) != []


def test_an_expectation_that_was_not_met_is_wrong():
    told = history(
        FIRST, done("p.2", ["a"], (12, 22), 2, {"a": 2}, expect={"a": 0, "z": 0})
    )
    assert "expected 0 of a" in texts(check_order(told, log_of(A1, ("p.2", "a"))))


def test_a_conflict_about_a_version_that_never_was_is_wrong():
    no = refused("p.9", ["a"], (30, 40), ("a", 7, 5), expect={"a": 7})
    assert "was never true" in texts(check_order(history(FIRST, no), log_of(A1)))


def test_a_conflict_that_was_none_is_wrong():
    no = refused("p.9", ["a"], (30, 40), ("a", 1, 1), expect={"a": 1})
    assert "expected 1" in texts(check_order(history(FIRST, no), log_of(A1)))


def test_a_conflict_that_leaves_out_a_failing_stream_is_wrong():
    expect = {"a": 0, "b": 5}
    no = refused("p.9", ["a"], (30, 40), ("a", 0, 1), expect=expect)
    assert "was never true" in texts(check_order(history(FIRST, no), log_of(A1)))


def test_a_reader_in_the_middle_of_a_commit_is_wrong():
    log = log_of(("p.1", "a", "b"))
    told = history(
        done("p.1", ["a", "b"], (10, 20), 1, {"a": 1, "b": 1}), HeadRead(0, 15, 16, 1)
    )
    assert "was never true" in texts(check_order(told, log))


def test_a_snapshot_of_two_states_is_wrong():
    log = log_of(A1, B1)
    told = history(
        FIRST,
        SECOND,
        SnapshotRead(0, 5, 50, 2, {"a": 0, "b": 1}, (log.entries[1],)),
    )
    assert "a at 0 as of 2" in texts(check_order(told, log))
    assert "rw a 0" in texts(check_cycles(told, log))


def test_a_value_that_is_not_the_logs_is_wrong():
    false = StreamRead(0, 25, 50, "a", 0, (Entry(1, "a", 1, "p.7 0/1"),))
    assert "was seen" in texts(check_order(history(FIRST, false), log_of(A1)))
    assert check_streams(history(FIRST, false)) != []


# --- cycles


def test_two_writers_that_rest_on_each_others_stream_run_in_a_circle():
    told = history(
        done("p.1", ["a"], (10, 40), 1, {"a": 1}, expect={"b": 0}),
        done("p.2", ["b"], (10, 40), 2, {"b": 1}, expect={"a": 0}),
    )
    found = texts(check_cycles(told, log_of(A1, B1)))
    assert "rw a 0" in found
    assert "rw b 0" in found


def test_reads_that_disagree_on_what_came_first_run_in_a_circle():
    told = history(
        lost("p.1", ["a"], 1),
        lost("p.2", ["b"], 1),
        SnapshotRead(0, 2, 50, 1, {"a": 1, "b": 0}),
        SnapshotRead(1, 2, 50, 2, {"a": 0, "b": 1}),
    )
    assert check_cycles(told, log_of(A1, B1)) != []


def test_a_version_in_the_middle_of_a_commit_is_seen_by_nobody():
    log = log_of(("p.1", "a", "a"))
    told = history(lost("p.1", ["a", "a"], 1), VersionRead(0, 2, 3, "a", 1))
    assert "in the middle" in texts(check_cycles(told, log))


# --- keys


def keyed(times, first=1, *, replayed=False, streams=("a",), name="p.1"):
    return done(
        name,
        list(streams),
        times,
        first,
        dict.fromkeys(streams, 1),
        replayed=replayed,
        key="k",
    )


def test_a_key_that_is_answered_twice_alike_is_fine():
    told = history(keyed((1, 2)), keyed((3, 4), replayed=True))
    assert check(told, log_of(A1)) == []


def test_a_key_that_is_tried_again_after_no_answer_is_fine():
    told = history(lost("p.1", ["a"], 1, key="k"), keyed((3, 4), replayed=True))
    assert check(told, log_of(A1)) == []


def test_a_key_has_one_effect():
    told = history(keyed((1, 2)), keyed((3, 4), 2))
    assert "done 2 times" in texts(check_keys(told, log_of(A1)))


def test_a_replay_equals_the_original():
    told = history(keyed((1, 2)), keyed((3, 4), 2, replayed=True))
    assert "was answered" in texts(check_keys(told, log_of(A1)))


def test_a_replay_needs_an_original():
    told = history(keyed((3, 4), replayed=True))
    assert "of nothing" in texts(check_keys(told, log_of(A1)))


def test_other_content_under_a_key_is_no_replay():
    told = history(keyed((1, 2)), keyed((3, 4), 2, name="p.2", replayed=True))
    assert "two contents" in texts(check_keys(told, log_of(A1)))


def test_a_key_that_was_answered_is_not_refused_later():
    again = refused("p.1", ["a"], (3, 4), key="k", kind="IdempotencyMismatch")
    found = check_keys(history(keyed((1, 2)), again), log_of(A1))
    assert "was refused" in texts(found)


# --- deliveries


def delivered(*positions, after=0, prefix=None):
    log = log_of(A1, B1, ("p.3", "a"), ("p.4", "b"))
    followed = Followed("r", Following(1, after, prefix))
    for position in positions:
        followed.delivered.append(Delivered(1, 99, log.entries[position - 1]))
    return check_delivery(History(followed=[followed]), log)


def test_every_event_once_in_order_up_to_any_point_is_fine():
    assert delivered(1, 2, 3) == []
    assert delivered(3, 4, after=2) == []
    assert delivered(2, 4, prefix="b") == []
    assert delivered() == []


def test_a_hole_a_repetition_and_another_order_are_wrong():
    assert delivered(1, 3) != []
    assert delivered(1, 1, 2) != []
    assert delivered(2, 1) != []
    assert delivered(2, after=0) != []


def test_a_subscription_may_begin_in_an_earlier_part_of_the_log():
    whole = log_of(A1, B1, ("p.3", "a"))
    late = Log(whole.entries[1:], 1)
    followed = Followed("r", Following(1, 0))
    followed.delivered.extend(Delivered(1, 99, entry) for entry in whole.entries)
    assert check_delivery(History(followed=[followed]), late) == []
    del followed.delivered[1]
    assert check_delivery(History(followed=[followed]), late) != []


# --- waits


def followed_until(until, *positions, after=0, since=0):
    """A subscription that brought events `a 1`, `b 1` and `a 2` as far as they are named."""
    log = log_of(A1, B1, ("p.3", "a"))
    one = Followed("r", Following(1, after, None, since), until=until)
    brought = (log.entries[position - 1] for position in positions)
    one.delivered.extend(Delivered(1, until, entry) for entry in brought)
    acknowledged = done("p.3", ["a"], (20, 21), 3, {"a": 2})
    return check_waits(History([acknowledged], followed=[one]), log, bound=10)


def test_a_subscription_may_be_behind_for_no_longer_than_the_bound():
    assert followed_until(30, 1, 2) == []
    assert followed_until(31, 1, 2) != []
    assert followed_until(31, 1, 2, 3) == []
    assert followed_until(31) != []


def test_a_subscription_owes_nothing_of_what_it_began_after_or_just_after_it_began():
    assert followed_until(31, after=3) == []
    assert followed_until(31, 1, since=25) == []


def test_an_append_may_wait_for_no_longer_than_the_bound():
    log = log_of(A1)
    late = done("p.1", ["a"], (5, 15), 1, {"a": 1})
    assert check_waits(history(late), log, bound=10) == []
    assert check_waits(history(late), log, bound=9) != []


def test_an_append_without_an_answer_waits_until_its_process_was_last_heard_of():
    log = log_of(A1)
    told = history(lost("p.9", ["a"], at=5))
    assert check_waits(told, log, bound=9) == []
    told.heard["p"] = 15
    assert check_waits(told, log, bound=10) == []
    assert check_waits(told, log, bound=9) != []


# --- lines


def test_a_line_that_was_cut_off_is_none():
    lines = [begun("p.1", ["a"], 1), HeadRead(0, 1, 2, 3)]
    raw = b"".join(encode(line) + b"\n" for line in lines)
    assert list(decoded(raw)) == lines
    assert list(decoded(raw[:-3])) == lines[:1]


def test_a_process_is_heard_of_until_its_last_line():
    told = History()
    lines = [Following(1, 0, None, 5), begun("p.1", ["a"], 7), HeadRead(0, 8, 9, 0)]
    told.add("p", lines)
    assert told.heard == {"p": 9}
    assert told.followed[0].until == 9
    told.add("q", [Following(1, 0, None, 5), Unfollowed(1, 6), HeadRead(0, 8, 9, 0)])
    assert told.followed[1].until == 6
