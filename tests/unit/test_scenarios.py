"""Tests of commands by example: given events, when a command, then events.

A kit that is satisfied too easily lets a broken command pass; one whose message doesn't
show the difference sends its user to the debugger.
"""

from __future__ import annotations

import os
import subprocess
import sys
from datetime import UTC, datetime
from textwrap import dedent

import attrs
import pytest
from hypothesis import given as for_all
from hypothesis import strategies as st

import eventbraid as eb
from eventbraid.event import EventRegistry, UpcastEvent, upcaster
from eventbraid.testing import StreamEvents, check_purity, given, on
from tests.commands import (
    Account,
    Deposit,
    Deposited,
    Group,
    Joined,
    Limit,
    LimitSet,
    Money,
    PayAll,
    Transfer,
    Withdrawn,
)

A, B = Account("account-a"), Account("account-b")
LIMIT = Limit("limit-eu")
GROUP = Group("group-1")


class Purse(eb.Stream[Deposited | Withdrawn, Money], category="purse"):
    """A kind of stream with a state of its own."""

    def initial(self):
        return Money(0)

    def apply(self, state, event, /):
        match event:
            case Deposited(amount):
                return state + amount
            case Withdrawn(amount):
                return state - amount


class Pay(eb.Command):
    source: eb.Declared[Purse]
    target: eb.Declared[Purse]
    amount: Money

    def decide(self):
        left = self.source.state
        eb.require(left >= self.amount, "insufficient_funds", left=left)
        yield self.source.write(Withdrawn(self.amount))
        yield self.target.write(Deposited(self.amount))


class PayEach(eb.Command):
    """Pays every purse that its members name: discovered, not declared."""

    group: eb.Declared[Group]
    members: tuple[str, ...]

    def discover(self):
        return [Purse(member) for member in self.members]

    def decide(self):
        for member in self.members:
            purse = self.discovered(Purse(member))
            yield purse.write(Deposited(Money(purse.state + Money(1))))


MIA, BEN = Purse("purse-mia"), Purse("purse-ben")


def pay(amount=70):
    return Pay(source=MIA, target=BEN, amount=Money(amount))


def transfer(amount=70):
    return Transfer(source=A, target=B, limit=LIMIT, amount=Money(amount))


def deposited(amount):
    return Deposited(Money(amount))


def withdrawn(amount):
    return Withdrawn(Money(amount))


def message_of(check) -> str:
    with pytest.raises(AssertionError) as raised:
        check()
    return str(raised.value)


# --- what holds


def test_events_of_several_streams_are_compared_in_their_order():
    outcome = given(on(A, deposited(60), deposited(40))).when(transfer())
    assert outcome.then(on(A, withdrawn(70)), on(B, deposited(70))) is outcome


def test_streams_of_given_events_may_alternate_and_repeat():
    first = on(A, deposited(60)), on(LIMIT, LimitSet(Money(100))), on(A, deposited(40))
    given(*first).when(transfer()).then(on(A, withdrawn(70)), on(B, deposited(70)))


def test_a_rejection_is_compared_by_code_and_by_the_facts_that_are_named():
    rejected = given(on(A, deposited(5))).when(transfer())
    rejected.rejected("insufficient_funds").rejected("insufficient_funds", left=5)
    assert rejected.executed is None
    assert rejected.rejection is not None
    assert rejected.rejection.facts == {"left": 5}


def test_the_state_is_that_after_the_command():
    full = given(on(A, deposited(100)))
    full.when(transfer()).state({A.id: 30, B.id: 70})
    full.when(transfer(101)).rejected("insufficient_funds").state({A.id: 100})


def test_a_command_may_decide_on_nothing():
    class DoNothing(Deposit):
        def decide(self, state, /):
            return ()

    given().when(DoNothing(account=A, amount=Money(1))).then()


def test_discovered_streams_are_read_and_written():
    members = on(GROUP, Joined(A.id), Joined(B.id))
    pay = PayAll(group=GROUP, amount=Money(5))
    given(members).when(pay).then(on(A, deposited(5)), on(B, deposited(5)))


def test_given_events_stay_as_they_are():
    """One list of events may begin many tests."""
    full = given(on(A, deposited(100)))
    for _ in range(3):
        full.when(transfer()).then(on(A, withdrawn(70)), on(B, deposited(70)))


def test_a_further_command_sees_the_events_of_the_first():
    after = given(on(A, deposited(100))).when(transfer())
    after.when(transfer()).rejected("insufficient_funds", left=30)
    after.when(transfer(30)).then(on(A, withdrawn(30)), on(B, deposited(30)))


def test_a_known_key_replays_the_first_result():
    once = given(on(A, deposited(100))).when(transfer(), idempotency_key="k")
    again = once.when(transfer(), idempotency_key="k").replayed()
    again.then(on(A, withdrawn(70)), on(B, deposited(70))).state({A.id: 30, B.id: 70})


def test_a_known_key_with_another_command_is_refused():
    once = given(on(A, deposited(100))).when(transfer(), idempotency_key="k")
    with pytest.raises(eb.errors.IdempotencyMismatch):
        once.when(transfer(71), idempotency_key="k")


def test_a_rejection_uses_up_no_key():
    refused = given().when(transfer(), idempotency_key="k")
    refused.rejected("insufficient_funds")
    refused.when(transfer(), idempotency_key="k").rejected("insufficient_funds")


def test_metadata_is_compared_if_it_is_named():
    outcome = given(on(A, deposited(100))).when(transfer(), metadata={"by": "mia"})
    outcome.then(on(A, withdrawn(70), metadata={"by": "mia"}), on(B, deposited(70)))
    wrong = on(A, withdrawn(70), metadata={"by": "ben"}), on(B, deposited(70))
    message = message_of(lambda: outcome.then(*wrong))
    assert "- {'by': 'ben'}\n+ {'by': 'mia'}" in message


def test_further_writes_and_expectations_belong_to_the_commit():
    full = given(on(A, deposited(100)))
    note = eb.Write("account-c", deposited(1))
    outcome = full.when(transfer(), also=[note], expect={"account-c": eb.NO_STREAM})
    outcome.then(on(A, withdrawn(70)), on(B, deposited(70)), note)
    with pytest.raises(eb.VersionConflict):
        full.when(transfer(), expect={"account-c": eb.EXISTS})


def test_events_as_they_are_in_the_log_can_be_given():
    old = eb.NewEvent(A.id, "test.account.deposited", b'{"amount":100,"old":true}')
    given(old).when(transfer()).then(on(A, withdrawn(70)), on(B, deposited(70)))


def test_untyped_writes_stand_for_events_on_both_sides():
    full = given(eb.Write(A.id, deposited(100)))
    full.when(transfer()).then(
        eb.Write(A.id, withdrawn(70)), eb.new_event(B.id, deposited(70))
    )


def test_later_schema_versions_are_read_back():
    limited = given(on(A, deposited(100)), on(LIMIT, LimitSet(Money(50))))
    limited.when(transfer()).rejected("limit_exceeded", limit=50)


def test_times_and_ids_are_the_same_in_each_run():
    class Stamp(eb.StatefulCommand[tuple[str, ...], Deposited | Withdrawn]):
        account: eb.Declared[Account]

        def initial(self):
            return ()

        def apply(self, state, recorded, /):
            return (*state, str(recorded.recorded_at), str(recorded.event_id))

        def decide(self, state, /):
            return ()

    def stamps():
        later = on(A, deposited(2), recorded_at=late)
        events = on(A, deposited(1)), later, on(A, deposited(3))
        return given(*events).when(Stamp(account=A)).executed, events

    late = datetime(2031, 5, 1, 12, tzinfo=UTC)
    assert stamps() == stamps()
    first, second, third = (
        "2000-01-01 00:00:00+00:00",
        "2031-05-01 12:00:00+00:00",
        "2031-05-01 12:00:01+00:00",
    )
    ids = [f"7000-8000-00000000000{n}" for n in (1, 2, 3)]
    with pytest.raises(AssertionError) as raised:
        given(*stamps()[1]).when(Stamp(account=A)).state(())
    for text in (first, second, third, *ids):
        assert text in str(raised.value)


@eb.register_event("test.bare.told")
@attrs.frozen(eq=False)
class Told:
    text: str


class Bare(eb.Stream[Told], category="bare"): ...


def test_events_of_a_class_without_equality_are_compared_by_their_content():
    class Tell(eb.StatefulCommand[None, Told]):
        bare: eb.Declared[Bare]

        def initial(self): ...
        def apply(self, state, recorded, /): ...
        def decide(self, state, /):
            yield self.bare.write(Told("a"))

    outcome = given().when(Tell(bare="bare-1")).then(on(Bare("bare-1"), Told("a")))
    assert "other events" in message_of(
        lambda: outcome.then(on(Bare("bare-1"), Told("b")))
    )


def test_original_times_are_given_and_compared():
    import_of_history = datetime(1997, 8, 2, tzinfo=UTC)

    class Times(eb.StatefulCommand[tuple[str, ...], Deposited | Withdrawn]):
        account: eb.Declared[Account]

        def initial(self):
            return ()

        def apply(self, state, recorded, /):
            return (*state, str(recorded.original_time or recorded.recorded_at))

        def decide(self, state, /):
            return ()

    events = on(A, deposited(1), original_time=import_of_history), on(A, deposited(2))
    outcome = given(*events).when(Times(account=A))
    outcome.then().state(("1997-08-02 00:00:00+00:00", "2000-01-01 00:00:01+00:00"))


def test_original_times_of_writes_are_compared_if_they_are_named():
    happened = datetime(1997, 8, 2, tzinfo=UTC)

    class Import(eb.Command):
        account: eb.Declared[Account]
        happened: datetime

        def decide(self):
            yield self.account.write(deposited(1), original_time=self.happened)

    outcome = given().when(Import(account=A, happened=happened))
    outcome.then(on(A, deposited(1)))
    outcome.then(on(A, deposited(1), original_time=happened))
    outcome.then(eb.Write(A.id, deposited(1), original_time=happened))
    later = happened.replace(year=1998)
    with pytest.raises(AssertionError, match="original time of Deposited"):
        outcome.then(eb.Write(A.id, deposited(1), original_time=later))
    written = eb.Write(A.id, deposited(2), original_time=happened)
    [(_, event)] = given(written).when(Import(account=A, happened=later)).events
    assert event == deposited(1)


# --- states of streams


def test_a_command_decides_on_the_states_of_its_streams():
    full = given(on(MIA, deposited(60), deposited(40)), on(BEN, deposited(5)))
    full.state(MIA, Money(100)).state(BEN, Money(5))
    paid = full.when(pay()).then(on(MIA, withdrawn(70)), on(BEN, deposited(70)))
    paid.state(MIA, Money(30)).state(BEN, Money(75))
    paid.when(pay()).rejected("insufficient_funds", left=Money(30)).state(
        MIA, Money(30)
    )


def test_discovered_streams_have_their_states():
    each = PayEach(group=GROUP, members=(MIA.id, BEN.id))
    outcome = given(on(BEN, deposited(5))).when(each)
    outcome.then(on(MIA, deposited(1)), on(BEN, deposited(6))).state(BEN, Money(11))


def test_keys_are_known_to_commands_on_states():
    once = given(on(MIA, deposited(100))).when(pay(), idempotency_key="k")
    again = once.when(pay(), idempotency_key="k").replayed()
    again.then(on(MIA, withdrawn(70)), on(BEN, deposited(70)))
    with pytest.raises(eb.errors.IdempotencyMismatch):
        once.when(pay(71), idempotency_key="k")


def test_another_state_of_a_stream_is_shown():
    for shown in (given().state, given().when(pay()).state):
        message = message_of(lambda shown=shown: shown(MIA, Money(1)))
        assert message.splitlines() == [
            "the state of Purse('purse-mia') is another",
            "- expected, + folded:",
            "- Money(1)",
            "+ Money(0)",
        ]


def test_a_state_that_there_is_not_is_refused_with_the_remedy():
    refused = eb.errors.InvalidArgument
    with pytest.raises(refused, match="Account has no state; define initial"):
        given().state(A, 1)
    with pytest.raises(refused, match=r"Pay has no state of its own; name the stream"):
        given().when(pay()).state(Money(1))
    with pytest.raises(refused, match="give a stream by its kind"):
        given().state("purse-mia", Money(1))


def test_a_fold_that_fails_is_reported_with_its_place():
    with pytest.raises(eb.errors.FoldError, match="purse-mia"):
        given(on(MIA, withdrawn(1))).when(pay())


# --- registries


def test_events_of_a_scoped_registry_are_given_and_compared():
    registry = EventRegistry()

    @eb.event("test.scoped.rung", registry=registry)
    class Rung:
        times: int

    class Bell(eb.Stream[Rung, int], category="bell"):
        def initial(self):
            return 0

        def apply(self, state, event, /):
            return state + event.times

    class Ring(eb.Command):
        bell: eb.Declared[Bell]

        def decide(self):
            yield self.bell.write(Rung(self.bell.state + 1))

    bell = Bell("bell-1")
    rung = given(on(bell, Rung(2)), registry=registry).state(bell, 2)
    rung.when(Ring(bell=bell)).then(on(bell, Rung(3))).state(bell, 5)
    check_purity(Ring(bell=bell), on(bell, Rung(2)), registry=registry)
    with pytest.raises(eb.errors.InvalidArgument, match="not registered"):
        given(on(bell, Rung(2)))


@pytest.fixture
def changed_events():
    """A registry in which old events become several events of today, or none."""
    registry = EventRegistry()

    @eb.event("test.changed.fetched", registry=registry)
    class Fetched:
        amount: int

    @eb.event("test.changed.stored", registry=registry)
    class Stored:
        amount: int

    @upcaster(
        "test.changed.moved",
        from_version=1,
        into=["test.changed.fetched", "test.changed.stored"],
        registry=registry,
    )
    def in_two_parts(body):
        if body["amount"]:
            yield UpcastEvent("test.changed.fetched", body)
            yield UpcastEvent("test.changed.stored", body)

    class Shelf(eb.Stream[Fetched | Stored, list], category="shelf"):
        def initial(self):
            return []

        def apply(self, state, event, /):
            return [*state, event]

    class Tidy(eb.Command):
        shelf: eb.Declared[Shelf]

        def decide(self):
            total = sum(event.amount for event in self.shelf.state)
            yield self.shelf.write(Fetched(total))
            yield self.shelf.write(Stored(total))

    class Count(eb.StatefulCommand[int, Fetched | Stored]):
        shelf: eb.Declared[Shelf]

        def initial(self):
            return 0

        def apply(self, state, recorded, /):
            return state + recorded.event.amount

        def decide(self, state, /):
            yield self.shelf.write(Stored(state))

    return registry, Shelf("shelf-1"), Fetched, Stored, Tidy, Count


def moved(amount):
    body = b'{"amount":%d}' % amount
    return eb.NewEvent("shelf-1", "test.changed.moved", body, metadata={"by": "mia"})


def test_old_events_that_are_split_or_dropped_are_folded_as_in_a_read(changed_events):
    registry, shelf, fetched, stored, tidy, count = changed_events
    begun = given(moved(2), moved(0), on(shelf, stored(5)), registry=registry)
    folded = [fetched(2), stored(2), stored(5)]
    begun.state(shelf, folded)
    done = begun.when(tidy(shelf=shelf)).then(on(shelf, fetched(9), stored(9)))
    done.state(shelf, [*folded, fetched(9), stored(9)])
    done.when(count(shelf=shelf)).then(on(shelf, stored(27))).state(54)
    check_purity(tidy(shelf=shelf), moved(2), moved(0), registry=registry)
    check_purity(count(shelf=shelf), moved(2), moved(0), registry=registry)
    with eb.open("memory:", registry=registry) as store:
        store.append(
            [
                moved(2),
                moved(0),
                eb.NewEvent("shelf-1", "test.changed.stored", b'{"amount":5}'),
            ]
        )
        assert eb.Executor(store).load(shelf).state == folded


def test_an_old_event_is_expected_as_the_events_that_it_is_read_as(changed_events):
    registry, shelf, fetched, stored, tidy, _ = changed_events
    metadata = {"by": "mia"}
    done = given(moved(2), registry=registry).when(
        tidy(shelf=shelf), metadata=metadata, idempotency_key="k"
    )
    done.then(moved(4)).then(moved(0), moved(4)).then(moved(4), moved(0))
    again = done.when(tidy(shelf=shelf), idempotency_key="k").replayed()
    again.then(on(shelf, fetched(4), stored(4), metadata=metadata)).then(moved(4))
    for wrong in ([moved(5)], [moved(0)], [moved(4), moved(4)]):
        with pytest.raises(AssertionError, match="decided on other events"):
            done.then(*wrong)
    with pytest.raises(AssertionError, match="the metadata or the original time of"):
        done.then(on(shelf, fetched(4), stored(4), metadata={"by": "tom"}))


# --- what doesn't hold


def test_another_event_is_shown_beside_the_expected_one():
    outcome = given(on(A, deposited(100))).when(transfer())
    shown = dedent("""\
        Transfer decided on other events
        - expected, + decided:
          on account-a
        -     Withdrawn(amount=Money(60))
        +     Withdrawn(amount=Money(70))
          on account-b
              Deposited(amount=Money(70))""")
    wrong = on(A, withdrawn(60)), on(B, deposited(70))
    assert message_of(lambda: outcome.then(*wrong)) == shown


@pytest.mark.parametrize(
    "expected",
    [
        (),
        (on(A, withdrawn(70)),),
        (on(B, deposited(70)), on(A, withdrawn(70))),
        (on(A, withdrawn(70)), on(A, deposited(70))),
        (on(A, withdrawn(70), withdrawn(70)), on(B, deposited(70))),
        (StreamEvents(A.id, (deposited(70),)), on(B, deposited(70))),
    ],
    ids=["none", "too few", "another order", "another stream", "too many", "type"],
)
def test_other_events_fail(expected):
    outcome = given(on(A, deposited(100))).when(transfer())
    assert "decided on other events" in message_of(lambda: outcome.then(*expected))


def test_a_rejection_where_events_are_expected_is_shown_with_its_facts():
    outcome = given(on(A, deposited(5))).when(transfer())
    message = message_of(lambda: outcome.then(on(A, withdrawn(70))))
    assert "Transfer was rejected: insufficient_funds (left=5)" in message
    assert "Withdrawn(amount=Money(70))" in message


def test_events_where_a_rejection_is_expected_are_shown():
    outcome = given(on(A, deposited(100))).when(transfer())
    message = message_of(lambda: outcome.rejected("insufficient_funds"))
    assert "not rejected with 'insufficient_funds'" in message
    assert "Withdrawn(amount=Money(70))" in message


@pytest.mark.parametrize(
    ("code", "facts", "lines"),
    [
        ("other", {}, ["- other", "+ insufficient_funds"]),
        ("insufficient_funds", {"left": 6}, ["-     left=6", "+     left=5"]),
        ("insufficient_funds", {"most": 5}, ["-     most=5", "+     left=5"]),
    ],
)
def test_another_rejection_fails(code, facts, lines):
    outcome = given(on(A, deposited(5))).when(transfer())
    message = message_of(lambda: outcome.rejected(code, **facts))
    assert set(lines) <= set(message.splitlines())


def test_another_state_fails():
    outcome = given(on(A, deposited(100))).when(transfer())
    message = message_of(lambda: outcome.state({A.id: 31, B.id: 70}))
    assert "- {'account-a': 31, 'account-b': 70}" in message
    assert "+ {'account-a': 30, 'account-b': 70}" in message


def test_an_execution_is_no_replay_and_neither_is_a_rejection():
    executed = given(on(A, deposited(100))).when(transfer(), idempotency_key="k")
    assert "executed, not replayed" in message_of(executed.replayed)
    assert "was rejected" in message_of(given().when(transfer()).replayed)


def test_an_error_of_the_command_is_raised_at_once():
    """Not at the comparison, which a test that fails for another reason never reaches."""

    class Broken(Deposit):
        def decide(self, state, /):
            raise ZeroDivisionError

    class Undeclared(Deposit):
        def decide(self, state, /):
            yield eb.Write(B.id, deposited(1))

    for is_checked in (True, False):
        begun = given(check_purity=is_checked)
        with pytest.raises(ZeroDivisionError):
            begun.when(Broken(account=A, amount=Money(1)))
        with pytest.raises(eb.errors.UndeclaredStream):
            begun.when(Undeclared(account=A, amount=Money(1)))


def test_an_event_that_the_command_does_not_apply_is_refused():
    foreign = eb.new_event(A.id, Joined("x"))
    with pytest.raises(eb.errors.EventDecodeError, match="doesn't apply Joined"):
        given(foreign).when(transfer())


# --- bad input


@pytest.mark.parametrize(
    ("call", "match"),
    [
        (lambda: on("account-a", deposited(1)), "give a stream by its kind"),
        (lambda: on(A, Joined("x")), "the events of Account are Deposited, Withdrawn"),
        (lambda: on(A, Deposited), "invalid event of Account.* 'type'"),
        (lambda: given(deposited(1)), "name its stream: on"),
        (lambda: given().when(5), "give an instance of a command's class"),
        (lambda: given().when(transfer(), also=[5]), "give a Write"),
    ],
)
def test_wrong_arguments_are_refused_with_the_remedy(call, match):
    with pytest.raises(eb.errors.InvalidArgument, match=match):
        call()


# --- the kit and an executor on a store agree


amounts = st.integers(1, 100).map(Money)
purses = st.sampled_from([MIA, BEN])
histories = st.lists(
    st.one_of(
        st.builds(on, st.sampled_from([A, B]), st.builds(Deposited, amounts)),
        st.builds(on, st.sampled_from([A, B]), st.builds(Withdrawn, amounts)),
        st.builds(on, purses, st.builds(Deposited, amounts)),
        st.builds(on, st.just(LIMIT), st.builds(LimitSet, amounts)),
        st.builds(on, st.just(GROUP), st.builds(Joined, st.sampled_from([A.id, B.id]))),
    ),
    max_size=12,
)
commands = st.one_of(
    st.builds(pay, st.integers(1, 100)),
    st.just(PayEach(group=GROUP, members=(MIA.id, BEN.id))),
    st.builds(transfer, st.integers(1, 100)),
    st.builds(lambda m: PayAll(group=GROUP, amount=m), amounts),
    st.builds(lambda m: Deposit(account=A, amount=m), amounts),
)


@for_all(histories, st.lists(commands, min_size=1, max_size=4))
def test_the_kit_decides_as_an_executor_does_on_a_store(history, requests):
    with eb.open("memory:") as store:
        for one in history:
            store.append([eb.new_event(one.stream, event) for event in one.events])
        executor = eb.Executor(store)
        outcome = given(*history)
        for number, command in enumerate(requests):
            outcome = outcome.when(command, idempotency_key=f"{number // 2}-{command}")
            try:
                done = executor.execute(
                    command, idempotency_key=f"{number // 2}-{command}"
                )
            except eb.CommandRejected as rejection:
                outcome.rejected(rejection.code, **rejection.facts)
            else:
                assert outcome.executed == done


# --- test frameworks


def test_unittest_shows_the_difference_without_frames_of_the_kit(tmp_path, repository):
    (tmp_path / "test_it.py").write_text(
        dedent("""\
            import unittest
            from eventbraid.testing import given, on
            from tests.commands import *

            class TestTransfer(unittest.TestCase):
                def test_deposit(self):
                    account = Account("account-a")
                    deposit = Deposit(account=account, amount=Money(5))
                    given().when(deposit).then(on(account, Deposited(Money(6))))

            if __name__ == "__main__":
                unittest.main()
            """)
    )
    done = subprocess.run(
        [sys.executable, tmp_path / "test_it.py"],
        cwd=repository,
        env={"PYTHONPATH": os.pathsep.join([str(repository), *sys.path])},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert "-     Deposited(amount=Money(6))\n+     Deposited(amount=Money(5))" in (
        done.stderr
    )
    assert "_scenario.py" not in done.stderr


def test_neither_the_kit_nor_its_import_needs_pytest():
    probe = dedent("""\
        import sys
        sys.modules["pytest"] = sys.modules["hypothesis"] = None
        from eventbraid.testing import given, on
        given()
        import eventbraid.testing
        try:
            eventbraid.testing.StoreContract
        except ModuleNotFoundError as error:
            print(error)
        try:
            eventbraid.testing.missing
        except AttributeError as error:
            print(error)
        """)
    done = subprocess.run(
        [sys.executable, "-c", probe], capture_output=True, text=True, check=True
    )
    assert "pip install 'eventbraid[testing]'" in done.stdout
    assert "has no attribute 'missing'" in done.stdout
