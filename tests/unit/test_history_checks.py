"""The checks of histories find the faults that they are for, and nothing else.

Each history is written by hand: the calls of up to three clients, with their times and
results.
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
from tests.histories.history import (
    Append,
    AppendBegun,
    AppendDone,
    AppendRefused,
    AppendUnknown,
    Delivered,
    Entry,
    HeadRead,
    History,
    LogRead,
    SnapshotRead,
    StreamRead,
    Subscription,
    SubscriptionBegun,
    SubscriptionEnded,
    VersionRead,
    decoded,
    encode,
)
from tests.histories.log import Log

NUMBERS = iter(range(1_000_000))


def log_of(*commits):
    """Build a log. Each commit is its name and the streams of its events."""
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
    return AppendBegun(next(NUMBERS), 0, at, events, expect or {}, key)


def done(name, streams, times, first, versions, *, replayed=False, **request):
    """Build an append with a result."""
    last = None if first is None else first + len(streams) - 1
    line = begun(name, streams, times[0], **request)
    answer = AppendDone(line.number, times[1], first, last, versions, replayed)
    return Append("p", line, answer)


def lost(name, streams, at, **request):
    """Build an append without a result."""
    return Append("p", begun(name, streams, at, **request))


def refused(name, streams, times, *failures, kind="VersionConflict", **request):
    line = begun(name, streams, times[0], **request)
    return Append("p", line, AppendRefused(line.number, times[1], kind, failures))


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


# --- correct histories


def test_results_that_agree_with_the_log_have_no_finding():
    calls = history(
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
    calls.reads[0] = (
        "q",
        StreamRead(0, 25, 50, "a", 0, (Entry(1, "a", 1, "p.1 0/1"),)),
    )
    assert check(calls, log_of(A1, B1)) == []


def test_an_append_without_a_result_may_be_in_the_log_or_not():
    calls = history(FIRST, lost("p.2", ["b"], 5))
    assert check(calls, log_of(A1)) == []
    assert check(calls, log_of(A1, B1)) == []
    line = begun("p.2", ["b"], 5)
    unclear = Append("p", line, AppendUnknown(line.number, 8))
    assert check(history(FIRST, unclear), log_of(A1, B1)) == []


def test_a_later_part_of_a_log_continues_the_earlier_one():
    whole = log_of(A1, ("p.2", "a"))
    early = Log(whole.entries[:1])
    late = Log(whole.entries[1:], early.head, early.contents_after())
    calls = history(
        done("p.2", ["a"], (30, 40), 2, {"a": 2}, expect={"a": 1}),
        StreamRead(0, 25, 50, "a", 0, tuple(whole.entries)),
        VersionRead(0, 25, 29, "a", 1),
    )
    assert check(calls, late) == []
    stale = history(*(a for a in calls.appends), VersionRead(0, 45, 50, "a", 1))
    assert "order" in texts(check_order(stale, late))
    assert "streams" in texts(check_streams(stale, late.contents))


# --- the log


def test_an_acknowledged_commit_that_is_not_in_the_log_is_lost():
    [found] = check_log(history(FIRST, SECOND), log_of(A1))
    assert (found.kind, found.by) == ("lost", "log")


def test_half_a_commit_is_torn():
    log = Log([Entry(1, "a", 1, "p.1 0/2")])
    [found] = check_log(history(lost("p.1", ["a", "b"], 1)), log)
    assert found.kind == "torn"


def test_a_commit_with_another_one_inside_is_torn():
    log = Log(
        [
            Entry(1, "a", 1, "p.1 0/2"),
            Entry(2, "b", 1, "p.2 0/1"),
            Entry(3, "a", 2, "p.1 1/2"),
        ]
    )
    calls = history(lost("p.1", ["a", "a"], 1), lost("p.2", ["b"], 1))
    assert {found.kind for found in check_log(calls, log)} == {"torn"}


def test_gaps_are_wrong():
    log = Log([Entry(1, "a", 1, "p.1 0/1"), Entry(3, "b", 2, "p.2 0/1")])
    calls = history(lost("p.1", ["a"], 1), lost("p.2", ["b"], 1))
    assert [f.kind for f in check_log(calls, log)] == ["wrong", "wrong"]


def test_a_commit_that_was_refused_or_never_called_must_not_be_in_the_log():
    no = refused("p.1", ["a"], (1, 2), ("a", 3, 0), expect={"a": 3})
    assert "was refused" in texts(check_log(history(no), log_of(A1)))
    assert "was never called" in texts(check_log(history(), log_of(A1)))


# --- the order


def test_a_read_that_misses_an_acknowledged_commit_is_stale():
    calls = history(FIRST, VersionRead(0, 21, 22, "a", 0))
    assert "had returned 1" in texts(check_order(calls, log_of(A1)))
    assert check_streams(calls) != []
    assert check_cycles(calls, log_of(A1)) != []


def test_a_read_that_misses_an_event_of_an_earlier_read_is_stale():
    calls = history(
        lost("p.1", ["a"], 10), HeadRead(0, 21, 22, 1), VersionRead(0, 30, 31, "a", 0)
    )
    assert "had returned 1" in texts(check_order(calls, log_of(A1)))


def test_a_delivered_event_is_in_every_later_read():
    calls = history(lost("p.1", ["a"], 10), HeadRead(0, 30, 31, 0))
    subscription = Subscription("r", SubscriptionBegun(1, 0))
    subscription.delivered.append(Delivered(1, 25, Entry(1, "a", 1, "p.1 0/1")))
    calls.subscriptions.append(subscription)
    assert "a delivery of 1" in texts(check_order(calls, log_of(A1)))


def test_positions_must_agree_with_time():
    calls = history(
        done("p.2", ["b"], (10, 20), 2, {"b": 1}),
        done("p.1", ["a"], (30, 40), 1, {"a": 1}),
    )
    assert "p.2" in texts(check_order(calls, log_of(A1, B1)))


def test_a_commit_cannot_precede_its_call():
    calls = history(FIRST, lost("p.2", ["b"], 30), HeadRead(0, 21, 22, 2))
    assert check_order(calls, log_of(A1, B1)) != []


def test_an_expectation_that_was_not_met_is_wrong():
    calls = history(
        FIRST, done("p.2", ["a"], (12, 22), 2, {"a": 2}, expect={"a": 0, "z": 0})
    )
    assert "expected 0 of a" in texts(check_order(calls, log_of(A1, ("p.2", "a"))))


def test_a_conflict_with_a_version_that_never_existed_is_wrong():
    no = refused("p.9", ["a"], (30, 40), ("a", 7, 5), expect={"a": 7})
    assert "was never true" in texts(check_order(history(FIRST, no), log_of(A1)))


def test_a_conflict_with_the_expected_version_is_wrong():
    no = refused("p.9", ["a"], (30, 40), ("a", 1, 1), expect={"a": 1})
    assert "expected 1" in texts(check_order(history(FIRST, no), log_of(A1)))


def test_a_conflict_that_omits_a_failing_stream_is_wrong():
    expect = {"a": 0, "b": 5}
    no = refused("p.9", ["a"], (30, 40), ("a", 0, 1), expect=expect)
    assert "was never true" in texts(check_order(history(FIRST, no), log_of(A1)))


def test_a_reader_in_the_middle_of_a_commit_is_wrong():
    log = log_of(("p.1", "a", "b"))
    calls = history(
        done("p.1", ["a", "b"], (10, 20), 1, {"a": 1, "b": 1}), HeadRead(0, 15, 16, 1)
    )
    assert "was never true" in texts(check_order(calls, log))


def test_a_snapshot_of_two_states_is_wrong():
    log = log_of(A1, B1)
    calls = history(
        FIRST,
        SECOND,
        SnapshotRead(0, 5, 50, 2, {"a": 0, "b": 1}, (log.entries[1],)),
    )
    assert "a at 0 as of 2" in texts(check_order(calls, log))
    assert "rw a 0" in texts(check_cycles(calls, log))


def test_a_value_that_differs_from_the_log_is_wrong():
    false = StreamRead(0, 25, 50, "a", 0, (Entry(1, "a", 1, "p.7 0/1"),))
    assert "was read" in texts(check_order(history(FIRST, false), log_of(A1)))
    assert check_streams(history(FIRST, false)) != []


# --- cycles


def test_two_writers_that_depend_on_each_others_stream_form_a_cycle():
    calls = history(
        done("p.1", ["a"], (10, 40), 1, {"a": 1}, expect={"b": 0}),
        done("p.2", ["b"], (10, 40), 2, {"b": 1}, expect={"a": 0}),
    )
    found = texts(check_cycles(calls, log_of(A1, B1)))
    assert "rw a 0" in found
    assert "rw b 0" in found


def test_reads_that_disagree_on_the_order_form_a_cycle():
    calls = history(
        lost("p.1", ["a"], 1),
        lost("p.2", ["b"], 1),
        SnapshotRead(0, 2, 50, 1, {"a": 1, "b": 0}),
        SnapshotRead(1, 2, 50, 2, {"a": 0, "b": 1}),
    )
    assert check_cycles(calls, log_of(A1, B1)) != []


def test_a_version_in_the_middle_of_a_commit_is_never_read():
    log = log_of(("p.1", "a", "a"))
    calls = history(lost("p.1", ["a", "a"], 1), VersionRead(0, 2, 3, "a", 1))
    assert "in the middle" in texts(check_cycles(calls, log))


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


def test_a_key_with_two_equal_results_has_no_finding():
    calls = history(keyed((1, 2)), keyed((3, 4), replayed=True))
    assert check(calls, log_of(A1)) == []


def test_a_key_that_is_repeated_without_a_first_result_has_no_finding():
    calls = history(lost("p.1", ["a"], 1, key="k"), keyed((3, 4), replayed=True))
    assert check(calls, log_of(A1)) == []


def test_a_key_has_one_effect():
    calls = history(keyed((1, 2)), keyed((3, 4), 2))
    assert "done 2 times" in texts(check_keys(calls, log_of(A1)))


def test_a_replay_equals_the_original():
    calls = history(keyed((1, 2)), keyed((3, 4), 2, replayed=True))
    assert "was answered" in texts(check_keys(calls, log_of(A1)))


def test_a_replay_needs_an_original():
    calls = history(keyed((3, 4), replayed=True))
    assert "of nothing" in texts(check_keys(calls, log_of(A1)))


def test_other_content_with_the_same_key_is_no_replay():
    calls = history(keyed((1, 2)), keyed((3, 4), 2, name="p.2", replayed=True))
    assert "two contents" in texts(check_keys(calls, log_of(A1)))


def test_a_key_with_a_result_is_not_refused_later():
    again = refused("p.1", ["a"], (3, 4), key="k", kind="IdempotencyMismatch")
    found = check_keys(history(keyed((1, 2)), again), log_of(A1))
    assert "was refused" in texts(found)


# --- deliveries


def delivered(*positions, after=0, prefix=None):
    log = log_of(A1, B1, ("p.3", "a"), ("p.4", "b"))
    subscription = Subscription("r", SubscriptionBegun(1, after, prefix))
    for position in positions:
        subscription.delivered.append(Delivered(1, 99, log.entries[position - 1]))
    return check_delivery(History(subscriptions=[subscription]), log)


def test_every_event_once_in_order_up_to_any_position_has_no_finding():
    assert delivered(1, 2, 3) == []
    assert delivered(3, 4, after=2) == []
    assert delivered(2, 4, prefix="b") == []
    assert delivered() == []


def test_a_gap_a_repetition_and_another_order_are_wrong():
    assert delivered(1, 3) != []
    assert delivered(1, 1, 2) != []
    assert delivered(2, 1) != []
    assert delivered(2, after=0) != []


def test_a_subscription_may_begin_in_an_earlier_part_of_the_log():
    whole = log_of(A1, B1, ("p.3", "a"))
    late = Log(whole.entries[1:], 1)
    subscription = Subscription("r", SubscriptionBegun(1, 0))
    subscription.delivered.extend(Delivered(1, 99, entry) for entry in whole.entries)
    assert check_delivery(History(subscriptions=[subscription]), late) == []
    del subscription.delivered[1]
    assert check_delivery(History(subscriptions=[subscription]), late) != []


# --- waits


def followed_until(until, *positions, after=0, since=0, at=20):
    """Check a subscription that delivered some of the events `a 1`, `b 1` and `a 2`."""
    log = log_of(A1, B1, ("p.3", "a"))
    one = Subscription("r", SubscriptionBegun(1, after, None, since), until=until)
    delivered = (log.entries[position - 1] for position in positions)
    one.delivered.extend(Delivered(1, at, entry) for entry in delivered)
    acknowledged = done("p.3", ["a"], (20, 21), 3, {"a": 2})
    return check_waits(History([acknowledged], subscriptions=[one]), log, bound=10)


def test_a_subscription_delivers_within_the_bound_while_an_event_is_due():
    assert followed_until(30, 1, 2) == []
    assert followed_until(31, 1, 2) != []
    assert followed_until(31, 1, 2, 3) == []
    assert followed_until(31) != []


def test_a_subscription_that_still_delivers_may_lag():
    assert followed_until(90, 1, 2, at=81) == []
    assert followed_until(91, 1, 2, at=81) != []


def test_a_subscription_owes_no_event_before_its_start_or_just_after_it():
    assert followed_until(31, after=3) == []
    assert followed_until(31, 1, since=25) == []


def test_an_append_may_wait_for_no_longer_than_the_bound():
    log = log_of(A1)
    late = done("p.1", ["a"], (5, 15), 1, {"a": 1})
    assert check_waits(history(late), log, bound=10) == []
    assert check_waits(history(late), log, bound=9) != []


def test_an_append_without_a_result_waits_until_the_last_line_of_its_process():
    log = log_of(A1)
    calls = history(lost("p.9", ["a"], at=5))
    assert check_waits(calls, log, bound=9) == []
    calls.last_line_at["p"] = 15
    assert check_waits(calls, log, bound=10) == []
    assert check_waits(calls, log, bound=9) != []


# --- lines


def test_a_truncated_line_is_ignored():
    lines = [begun("p.1", ["a"], 1), HeadRead(0, 1, 2, 3)]
    raw = b"".join(encode(line) + b"\n" for line in lines)
    assert list(decoded(raw)) == lines
    assert list(decoded(raw[:-3])) == lines[:1]


def test_the_last_line_of_a_process_is_its_last_time():
    calls = History()
    lines = [
        SubscriptionBegun(1, 0, None, 5),
        begun("p.1", ["a"], 7),
        HeadRead(0, 8, 9, 0),
    ]
    calls.add("p", lines)
    assert calls.last_line_at == {"p": 9}
    assert calls.subscriptions[0].until == 9
    calls.add(
        "q",
        [
            SubscriptionBegun(1, 0, None, 5),
            SubscriptionEnded(1, 6),
            HeadRead(0, 8, 9, 0),
        ],
    )
    assert calls.subscriptions[1].until == 6
