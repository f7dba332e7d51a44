"""The purity check finds what makes a command decide differently on the same events.

A clock in `decide` passes every test that executes it once, and fails in production
when a conflict repeats it.
"""

from __future__ import annotations

import collections
import datetime as dt
import functools
import gc
import random
import secrets
import socket
import sys
import time
import uuid
from pathlib import Path

import msgspec
import pytest

import eventbraid as eb
from eventbraid.testing import ImpureCommand, check_purity, given, on
from tests.commands import (
    Account,
    Deposit,
    Deposited,
    Group,
    Joined,
    Money,
    PayAll,
    Transfer,
    Withdrawn,
)

A = Account("account-a")
EVENT = on(A, Deposited(Money(1)))
HERE = Path(__file__).name


def refusal_of(command, *events) -> ImpureCommand:
    with pytest.raises(ImpureCommand) as raised:
        check_purity(command, *events)
    with pytest.raises(ImpureCommand, match=r"is not pure"):
        given(*events).when(command)
    given(*events, check_purity=False).when(command)
    return raised.value


class Noted(eb.StatefulCommand[int, Deposited | Withdrawn], abstract=True):
    account: eb.Declared[Account]

    def initial(self):
        return 0

    def apply(self, state, recorded, /):
        return state + 1

    def decide(self, state, /):
        return ()


IMPURE = {
    "reads the clock (time.time()": lambda: [time.time()],
    "reads the clock (time.monotonic_ns()": lambda: [time.monotonic_ns()],
    "reads the clock (datetime.now()": lambda: dt.datetime.now(dt.UTC),
    "reads the clock (date.today()": lambda: [dt.date.today()],  # noqa: DTZ011
    "uses random numbers (random.random()": lambda: [random.random()],
    "uses random numbers (random.choice()": lambda: random.choice([1, 2]),
    "uses random numbers (random.seed()": lambda: random.seed(1),
    "uses random numbers (uuid.uuid4()": lambda: [uuid.uuid4()],
    "uses random numbers (secrets.token_bytes()": lambda: secrets.token_bytes(4),
    "uses random numbers (eventbraid._native.uuid7()": lambda: [eb.store.uuid7()],
    "performs input or output (open()": lambda: open("/dev/null").close(),  # noqa: PTH123
    "performs input or output (pathlib.read_bytes()": lambda: Path(
        "/dev/null"
    ).read_bytes(),
    "performs input or output (time.sleep()": lambda: time.sleep(0),
}


@pytest.mark.parametrize("reason", IMPURE)
@pytest.mark.parametrize("method", ["initial", "apply", "discover", "decide"])
def test_an_impure_call_is_reported_with_its_place(method, reason):
    calls = IMPURE[reason]

    class Impure(Noted):
        def initial(self):
            if method == "initial":
                calls()
            return 0

        def apply(self, state, recorded, /):
            if method == "apply":
                calls()
            return state

        def discover(self, state, /):
            if method == "discover":
                calls()
            return ()

        def decide(self, state, /):
            if method == "decide":
                calls()
            yield self.account.write(Deposited(Money(1)))

    refusal = refusal_of(Impure(account=A), EVENT)
    assert str(refusal).startswith(f"Impure.{method}() is not pure: it {reason}, ")
    assert f"{HERE}:" in str(refusal)
    assert "pass the value as a field of the command" in str(refusal)
    assert (refusal.owner, refusal.method) == ("Impure", method)


def test_a_connection_is_input_and_output():
    class Ask(Noted):
        def decide(self, state, /):
            with socket.socket(socket.AF_UNIX) as asked:
                asked.connect_ex("/nowhere")
            return ()

    assert "performs input or output (connect_ex()" in str(refusal_of(Ask(account=A)))


def test_a_call_in_a_helper_counts_for_the_method():
    class Impure(Noted):
        def decide(self, state, /):
            yield self.account.write(Deposited(Money(int(helper()))))

    def helper():
        return min([1], key=lambda _: time.time())

    assert refusal_of(Impure(account=A)).method == "decide"


def test_a_decorated_method_is_watched():
    def logged(function):
        @functools.wraps(function)
        def call(*args):
            return function(*args)

        return call

    class Impure(Noted):
        @logged
        def decide(self, state, /):
            time.time()
            return ()

    assert refusal_of(Impure(account=A)).method == "decide"


def test_what_has_no_known_call_is_found_by_a_second_evaluation():
    count = iter(range(100))

    class Counts(Noted):
        def decide(self, state, /):
            yield self.account.write(Deposited(Money(next(count))))

    class Rejects(Noted):
        def decide(self, state, /):
            eb.require(False, "never", n=next(count))
            return ()

    class Folds(Noted):
        def apply(self, state, recorded, /):
            return next(count)

    class Finds(Noted):
        def discover(self, state, /):
            return [Account(f"account-{next(count) // 4}")]

    fresh = "decides differently on the same state"
    assert fresh in str(refusal_of(Counts(account=A)))
    assert fresh in str(refusal_of(Rejects(account=A)))
    assert "folds the same events into another" in str(
        refusal_of(Folds(account=A), EVENT)
    )
    with pytest.raises(ImpureCommand, match="returns other streams for the same state"):
        check_purity(Finds(account=A))


def test_an_unseeded_generator_is_found_and_a_seeded_one_is_allowed():
    class Draws(Noted):
        seed: int | None

        def decide(self, state, /):
            amount = random.Random(self.seed).randint(0, 10**12)
            yield self.account.write(Deposited(Money(amount)))

    assert "decides differently" in str(refusal_of(Draws(account=A, seed=None)))
    check_purity(Draws(account=A, seed=5))


# --- changes


class Balances(eb.StatefulCommand[dict, Deposited | Withdrawn], abstract=True):
    account: eb.Declared[Account]

    def initial(self):
        return {}

    def apply(self, state, recorded, /):
        state[recorded.stream] = state.get(recorded.stream, 0) + 1
        return state

    def decide(self, state, /):
        return ()


def test_apply_may_change_the_state():
    class Counts(Balances): ...

    check_purity(Counts(account=A), EVENT, EVENT)


def test_decide_and_discover_may_not_change_the_state():
    class Decides(Balances):
        def decide(self, state, /):
            state.clear()
            return ()

    class Discovers(Balances):
        def discover(self, state, /):
            state["more"] = 1
            return ()

    class Rejects(Balances):
        def decide(self, state, /):
            state.clear()
            eb.require(False, "no")
            return ()

    for kind, method in (
        (Decides, "decide"),
        (Discovers, "discover"),
        (Rejects, "decide"),
    ):
        refusal = refusal_of(kind(account=A), EVENT)
        assert refusal.method == method
        assert "changes the state that it is called with" in str(refusal)


def test_a_state_that_is_shared_between_evaluations_is_found():
    class Shares(Balances):
        def initial(self):
            return shared

    shared: dict[str, int] = {}
    assert "another state each time" in str(refusal_of(Shares(account=A), EVENT))


@eb.register_event("test.tally.counted")
class Counted(msgspec.Struct):
    by: list[str]


class Tally(eb.Stream[Counted], category="tally"): ...


def test_apply_may_not_change_an_event():
    class Tallies(eb.StatefulCommand[int, Counted]):
        tally: eb.Declared[Tally]

        def initial(self):
            return 0

        def apply(self, state, recorded, /):
            recorded.event.by.append("me")
            return state

        def decide(self, state, /):
            return ()

    refusal = refusal_of(Tallies(tally="tally-1"), on(Tally("tally-1"), Counted(["a"])))
    assert refusal.method == "apply"
    assert "changes an event (test.tally.counted, version 1 of 'tally-1')" in str(
        refusal
    )


def test_no_method_may_change_a_field():
    class Takes(Noted):
        names: list[str]

        def decide(self, state, /):
            self.names.append("c")
            return ()

    refusal = refusal_of(Takes(account=A, names=["a"]))
    assert "changes a field of the command" in str(refusal)


def test_a_cached_property_is_no_change():
    class Caches(eb.StatefulCommand["Sum", Deposited | Withdrawn]):
        account: eb.Declared[Account]

        def initial(self):
            return Sum()

        def apply(self, state, recorded, /):
            return state

        def decide(self, state, /):
            assert state.doubled == 2
            return ()

    check_purity(Caches(account=A))


def test_a_default_of_a_missing_key_is_no_change():
    class Reads(eb.StatefulCommand[collections.defaultdict, Deposited | Withdrawn]):
        account: eb.Declared[Account]
        key: str

        def initial(self):
            return collections.defaultdict(int)

        def apply(self, state, recorded, /):
            state[recorded.stream] += 1
            return state

        def decide(self, state, /):
            state[self.key] += self.key == A.id
            return ()

    check_purity(Reads(account=A, key="missing"), EVENT)
    with pytest.raises(ImpureCommand, match=r"decide\(\).*changes the state"):
        check_purity(Reads(account=A, key=A.id), EVENT)


class Sum:
    @functools.cached_property
    def doubled(self):
        return 2


# --- folds of streams


class Kept(eb.Stream[Counted, dict], category="kept"):
    def initial(self):
        return {}

    def apply(self, state, event, /):
        return state | {name: state.get(name, 0) + 1 for name in event.by}


KEPT = on(Kept("kept-1"), Counted(["a"]))


def kind_of(apply=None, initial=None) -> type[eb.Stream]:
    """A kind of stream like `Kept`, with other functions."""

    class Other(eb.Stream[Counted, dict], category="kept"):
        def initial(self):
            return {} if initial is None else initial()

        def apply(self, state, event, /):
            return (
                Kept.apply(self, state, event) if apply is None else apply(state, event)
            )

    return Other


def reading(kind, *, discover=None, decide=None):
    """A command that reads a stream of a kind."""
    body = {"__annotations__": {"kept": eb.Declared[kind]}, "__module__": __name__}
    body["decide"] = decide or (lambda self: ())
    if discover is not None:
        body["discover"] = discover
    return type("Reads", (eb.Command,), body)(kept="kept-1")


def test_a_pure_kind_passes():
    check_purity(reading(Kept), KEPT, KEPT)


def test_the_fold_of_a_kind_may_change_neither_argument():
    def change_state(state, event):
        state["a"] = 1
        return state

    def change_event(state, event):
        event.by.append("b")
        return state

    place = "(test.tally.counted, version 1 of 'kept-1')"
    for apply, reason in (
        (change_state, f"changes the state that it is called with {place}"),
        (change_event, f"changes an event {place}"),
    ):
        kind = kind_of(apply)
        with pytest.raises(ImpureCommand) as raised:
            check_purity(reading(kind), KEPT)
        assert str(raised.value).startswith(f"Other.apply() is not pure: it {reason}; ")


def test_an_impure_call_in_the_fold_of_a_kind_is_reported():
    def read_clock(state, event):
        time.time()
        return state

    def draw():
        random.random()
        return {}

    for kind, method in (
        (kind_of(read_clock), "apply"),
        (kind_of(initial=draw), "initial"),
    ):
        with pytest.raises(ImpureCommand) as raised:
            check_purity(reading(kind), KEPT)
        assert (raised.value.owner, raised.value.method) == ("Other", method)
        assert "record the value in the event" in str(raised.value)


def test_the_fold_of_a_discovered_kind_is_checked_too():
    kind = kind_of(lambda state, event: [time.time(), state][1])

    class Finds(eb.Command):
        tally: eb.Declared[Tally]

        def discover(self):
            return [kind("kept-1")]

        def decide(self):
            return ()

    with pytest.raises(ImpureCommand, match=r"Other\.apply\(\) is not pure: it reads"):
        check_purity(Finds(tally="tally-1"), KEPT)


def test_a_fold_that_depends_on_more_than_its_events_is_found():
    count = iter(range(100))
    kind = kind_of(lambda state, event: {"n": next(count)})
    with pytest.raises(
        ImpureCommand, match=r"Other\.apply\(\).*another state each time"
    ):
        check_purity(reading(kind), KEPT)


def test_decide_and_discover_may_not_change_the_state_of_a_stream():
    def change(self):
        self.kept.state["b"] = 1
        return ()

    for options, method in (
        ({"decide": change}, "decide"),
        ({"discover": change}, "discover"),
    ):
        with pytest.raises(ImpureCommand) as raised:
            check_purity(reading(Kept, **options), KEPT)
        assert (raised.value.owner, raised.value.method) == ("Reads", method)
        assert "changes the state" in str(raised.value)


def test_impure_calls_of_a_command_on_states_are_reported():
    def decide(self):
        yield self.kept.write(Counted([str(uuid.uuid4())]))

    with pytest.raises(
        ImpureCommand, match=r"Reads\.decide\(\) is not pure: it uses random"
    ):
        check_purity(reading(Kept, decide=decide), KEPT)


# --- what is allowed


def test_the_commands_of_the_other_tests_are_pure():
    group = Group("group-1")
    check_purity(Deposit(account=A, amount=Money(1)), EVENT)
    check_purity(PayAll(group=group, amount=Money(1)), on(group, Joined(A.id)))
    transfer = Transfer(source=A, target="account-b", limit="limit-a", amount=Money(1))
    check_purity(transfer, EVENT)
    check_purity(transfer)


def test_calls_outside_of_the_command_are_not_reported():
    """Such as those of a callback of the garbage collector, which may run at any time."""

    class Collects(Noted):
        def decide(self, state, /):
            gc.collect()
            return ()

    def callback(phase, info):
        time.perf_counter()

    gc.callbacks.append(callback)
    try:
        check_purity(Collects(account=A), EVENT)
    finally:
        gc.callbacks.remove(callback)


def test_a_profile_function_is_restored():
    seen: list[str] = []

    def profile(frame, happened, called):
        seen.append(happened)

    sys.setprofile(profile)
    try:
        check_purity(Deposit(account=A, amount=Money(1)), EVENT)
        assert sys.getprofile() is profile
    finally:
        sys.setprofile(None)


def test_the_error_can_be_pickled():
    import copy
    import pickle

    refusal = ImpureCommand("Transfer", None, "reads the clock", "pass the time")
    for copied in (pickle.loads(pickle.dumps(refusal)), copy.copy(refusal)):
        assert (
            str(copied)
            == str(refusal)
            == ("Transfer is not pure: it reads the clock; pass the time")
        )
