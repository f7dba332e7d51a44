"""A program of today works on the events of the programs before it.

One store, two registries: the events as an old program wrote them, and as a new one
reads them, which splits one type into two, drops another and has renamed a third. The
hazards: a fold that misses a part of a record or counts it twice once its stream is
cached, a replayed result or a saga's step with the positions of typed events instead of
records, and two executors of one store that share what they decoded differently.
"""

from __future__ import annotations

import sys
import threading
import types
from datetime import timedelta
from typing import Any

import anyio
import pytest

import eventbraid as eb
from eventbraid.event import (
    EventDecoder,
    EventRegistry,
    UndecodedEvent,
    UpcastEvent,
    upcaster,
)

OLD, NEW = EventRegistry(), EventRegistry()


@eb.event("purse.adjusted", registry=OLD)
class Adjusted:
    by: tuple[int, ...]


@eb.event("purse.viewed", registry=OLD)
class Viewed: ...


@eb.event("purse.shut", registry=OLD)
class Shut: ...


@eb.event("purse.filled", registry=NEW)
class Filled:
    amount: int


@eb.event("purse.emptied", version=2, oldest_version=2, registry=NEW)
class Emptied:
    amount: int


@eb.event("purse.closed", formerly="purse.shut", registry=NEW)
class Closed: ...


@upcaster(
    "purse.adjusted",
    from_version=1,
    into=["purse.filled", ("purse.emptied", 2)],
    registry=NEW,
)
def split(body):
    for amount in body["by"]:
        if amount > 0:
            yield UpcastEvent("purse.filled", {"amount": amount})
        else:
            yield UpcastEvent("purse.emptied", {"amount": -amount}, 2)


@upcaster("purse.viewed", from_version=1, into=(), registry=NEW)
def drop(body):
    return ()


OLD.seal()
NEW.seal()

PurseEvent = Filled | Emptied | Closed


class Purse(eb.Stream[PurseEvent], category="purse"): ...


class Add(eb.StatefulCommand[tuple[tuple[int, int, int], ...], PurseEvent]):
    """Folds all it sees: amount, version and part of each event."""

    purse: eb.Declared[Purse]
    amount: int
    also_read: tuple[str, ...] = ()

    def initial(self):
        return ()

    def apply(self, state, recorded, /):
        match recorded.event:
            case Filled(amount):
                return (*state, (amount, recorded.version, recorded.part))
            case Emptied(amount):
                return (*state, (-amount, recorded.version, recorded.part))
            case Closed():
                return (*state, (0, recorded.version, recorded.part))

    def discover(self, state, /):
        return [Purse(one) for one in self.also_read]

    def decide(self, state, /):
        SEEN.append(state)
        yield self.purse.write(Filled(self.amount))


SEEN: list[Any] = []


@pytest.fixture(autouse=True)
def _forget():
    SEEN.clear()


def old(store, stream, *events):
    store.append([eb.new_event(stream, event, registry=OLD) for event in events])


@pytest.fixture
def store():
    with eb.open("memory:", registry=NEW) as opened:
        yield opened


def test_a_fold_gets_each_part_of_a_record(store):
    old(store, "purse-1", Adjusted((5, -2)), Viewed(), Adjusted(()), Shut())
    done = eb.Executor(store).execute(Add(purse="purse-1", amount=1))
    assert SEEN == [((5, 1, 1), (-2, 1, 2), (0, 4, 1))]
    assert done.versions == {"purse-1": 5}
    assert done.events == (Filled(1),)


@pytest.mark.parametrize("before", [0, 1, 15, 16, 40])
def test_a_cached_stream_has_the_same_parts(store, before):
    executor = eb.Executor(store)
    history = [Adjusted((1, -1, 2)), Viewed(), Adjusted(())] * before
    if history:
        old(store, "purse-1", *history)
    for number in range(30):
        executor.execute(Add(purse="purse-1", amount=number))
        old(store, "purse-1", Adjusted((7, 8)), Viewed())
        raw = store.read_stream("purse-1")
        fresh = [
            (getattr(one.event, "amount", 0), one.version, one.part)
            for one in EventDecoder(registry=NEW).decode_all(raw)
        ]
        again = eb.Executor(store)
        again.execute(Add(purse="purse-1", amount=9))
        signed = tuple((abs(amount), *place) for amount, *place in SEEN[-1])
        assert signed == tuple(fresh)
        executor.execute(Add(purse="purse-1", amount=100 + number))
        assert SEEN[-1][: len(SEEN[-2])] == SEEN[-2]


def test_discovered_streams_have_all_parts_in_the_order_of_the_log(store):
    for number in range(20):
        old(store, "purse-1", Adjusted((number, -number)))
        old(store, "purse-2", Adjusted((100 + number, 200 + number)))
    executor = eb.Executor(store)
    for _ in range(2):
        executor.execute(Add(purse="purse-1", amount=1, also_read=("purse-2",)))
        amounts = [amount for amount, _, _ in SEEN[-1]]
        assert amounts[:8] == [0, 0, 100, 200, 1, -1, 101, 201]
        assert [part for _, _, part in SEEN[-1][:8]] == [1, 2] * 4


def test_commands_that_wait_for_each_other_see_all_parts(store):
    old(store, "purse-1", *[Adjusted((1, 1, 1))] * 20)
    executor = eb.Executor(store)

    def run():
        for _ in range(10):
            executor.execute(Add(purse="purse-1", amount=5))

    threads = [threading.Thread(target=run) for _ in range(6)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    longest = max(SEEN, key=len)
    assert sum(amount for amount, _, _ in longest) == 60 + 59 * 5
    assert all(longest[: len(state)] == state for state in SEEN)


def test_a_replayed_command_returns_the_events_of_today(store):
    class OldPurse(eb.Stream[Adjusted], category="purse"): ...

    class Adjust(eb.StatefulCommand[None, Adjusted], name="adjust"):
        purse: eb.Declared[OldPurse]

        def initial(self): ...

        def apply(self, state, recorded, /): ...

        def decide(self, state, /):
            yield self.purse.write(Adjusted((5, -2)))

    command = Adjust(purse="purse-1")
    before = eb.Executor(store, registry=OLD)
    first = before.execute(command, idempotency_key="k")
    again = eb.Executor(store).execute(command, idempotency_key="k")
    assert again.events == (Filled(5), Emptied(2))
    assert (again.first_position, again.last_position) == (1, 1)
    assert (again.versions, again.replayed) == (first.versions, True)


def test_executors_with_different_registries_share_no_state(store):
    class OldPurse(eb.Stream[Adjusted | Viewed | Shut], category="purse"): ...

    class Count(eb.StatefulCommand[int, object]):
        purse: eb.Declared[OldPurse]

        def initial(self):
            return 0

        def apply(self, state, recorded, /):
            return state + 1

        def decide(self, state, /):
            SEEN.append(state)
            return ()

    old(store, "purse-1", *[Adjusted((1, 1, 1)), Viewed()] * 10)
    for _ in range(3):
        for registry, count in ((OLD, 20), (NEW, 30)):
            eb.Executor(store, registry=registry).execute(Count(purse="purse-1"))
            assert SEEN[-1] == count


def test_commands_of_different_registries_that_wait_share_no_state(store):
    class AnyPurse(eb.Stream[Any], category="purse"): ...

    class Count(eb.StatefulCommand[tuple[int, int], Any]):
        purse: eb.Declared[AnyPurse]
        parts: int
        adds: bool

        def initial(self):
            return 0, 0

        def apply(self, state, recorded, /):
            return state[0] + 1, recorded.version

        def decide(self, state, /):
            SEEN.append((self.parts, state))
            if self.adds:
                yield self.purse.write(Adjusted((1, 1, 1)))

    # Commands that only read conflict with the others, too, and wait with them.
    executors = {1: eb.Executor(store, registry=OLD), 3: eb.Executor(store)}

    def run(parts):
        for _ in range(25):
            command = Count(purse="purse-1", parts=parts, adds=parts == 1)
            executors[parts].execute(command)

    threads = [threading.Thread(target=run, args=[one]) for one in (1, 3) * 4]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    assert store.version("purse-1") == 100
    for parts, (count, version) in SEEN:
        assert count == parts * version


def test_events_are_upcast_again_when_an_upcaster_was_defined_again(monkeypatch):
    notebook = types.ModuleType("notebook_of_evolution")
    monkeypatch.setitem(sys.modules, notebook.__name__, notebook)
    registry = EventRegistry()
    vars(notebook).update(registry=registry, upcaster=upcaster)

    @eb.event("counted", version=2, registry=registry)
    class Counted:
        number: int

    class Counter(eb.Stream[Counted, int], category="counter"):
        def initial(self):
            return 0

        def apply(self, state, event, /):
            return state + event.number

    class Look(eb.Command):
        counter: eb.Declared[Counter]

        def decide(self):
            SEEN.append(self.counter.state)
            return ()

    cell = (
        "@upcaster('counted', from_version=1, registry=registry)\n"
        "def count(body):\n    return {{'number': {0}}}\n"
    )
    exec(cell.format(1), vars(notebook))
    with eb.open("memory:", registry=registry) as store:
        store.append([("counter-1", "counted", b"{}")] * 3)
        executor = eb.Executor(store)
        executor.execute(Look(counter="counter-1"))
        exec(cell.format(5), vars(notebook))
        executor.execute(Look(counter="counter-1"))
    assert SEEN == [3, 15]


# --- policies for events that can't be decoded


UNKNOWN = ("purse-1", "purse.sold", b"{}")
BROKEN = ("purse-1", "purse.filled", b'{"amount":"many"}')


def amounts_of(store, **options):
    decoder = EventDecoder(registry=NEW, **options)
    return [one.event for one in decoder.decode_all(store.read_stream("purse-1"))]


@pytest.fixture
def damaged(store):
    store.append([UNKNOWN, BROKEN])
    old(store, "purse-1", Adjusted((5, 6)))
    return store


def test_a_typed_read_raises_by_default_and_can_continue(damaged):
    decoder = EventDecoder(registry=NEW)
    first, second, third = damaged.read_stream("purse-1")
    with pytest.raises(eb.errors.UnknownEventType):
        decoder.decode(first)
    with pytest.raises(eb.errors.EventDecodeError):
        decoder.decode(second)
    assert [one.event for one in decoder.decode(third)] == [Filled(5), Filled(6)]


def test_a_typed_read_hands_over_what_it_cant_decode(damaged):
    unknown, broken, *rest = amounts_of(damaged, on_undecodable="raw")
    assert rest == [Filled(5), Filled(6)]
    assert isinstance(unknown.error, eb.errors.UnknownEventType)
    assert isinstance(broken.error, eb.errors.EventDecodeError)
    assert (broken.raw.version, broken.raw.data) == (2, BROKEN[2])


def test_a_typed_read_sets_aside_what_it_cant_decode(damaged):
    aside: list[UndecodedEvent] = []
    assert amounts_of(damaged, on_undecodable=aside.append) == [Filled(5), Filled(6)]
    assert [one.raw.version for one in aside] == [1, 2]


@pytest.mark.parametrize("policy", ["skip", "", None, 5, b"raw"])
def test_another_policy_is_refused(store, policy):
    with pytest.raises(eb.errors.InvalidArgument, match="on_undecodable"):
        EventDecoder(on_undecodable=policy)
    with pytest.raises(eb.errors.InvalidArgument, match="on_undecodable"):
        eb.Executor(store, on_undecodable=policy)


def test_what_sets_events_aside_may_raise(damaged):
    def refuse(undecoded):
        raise OverflowError(undecoded.raw.type)

    with pytest.raises(OverflowError, match=r"purse\.sold"):
        amounts_of(damaged, on_undecodable=refuse)


def test_a_command_refuses_an_undecodable_event_by_default(damaged):
    with pytest.raises(eb.errors.UnknownEventType):
        eb.Executor(damaged).execute(Add(purse="purse-1", amount=1))
    assert damaged.version("purse-1") == 3


def test_a_command_that_doesnt_expect_undecoded_events_refuses_them(damaged):
    executor = eb.Executor(damaged, on_undecodable="raw")
    for _ in range(2):
        with pytest.raises(eb.errors.UnknownEventType):
            executor.execute(Add(purse="purse-1", amount=1))
    assert damaged.version("purse-1") == 3


def test_a_command_may_fold_undecoded_events(damaged):
    class AnyPurse(eb.Stream[PurseEvent | UndecodedEvent], category="purse"): ...

    class Look(eb.StatefulCommand[tuple[object, ...], PurseEvent | UndecodedEvent]):
        purse: eb.Declared[AnyPurse]

        def initial(self):
            return ()

        def apply(self, state, recorded, /):
            return (*state, type(recorded.event), recorded.version)

        def decide(self, state, /):
            SEEN.append(state)
            return ()

    eb.Executor(damaged, on_undecodable="raw").execute(Look(purse="purse-1"))
    undecoded = UndecodedEvent
    assert [(undecoded, 1, undecoded, 2, Filled, 3, Filled, 3)] == SEEN


def test_a_command_decides_without_what_is_set_aside(damaged):
    aside: list[UndecodedEvent] = []
    executor = eb.Executor(damaged, on_undecodable=aside.append)
    for number in range(20):
        executor.execute(Add(purse="purse-1", amount=number))
    assert SEEN[0] == ((5, 3, 1), (6, 3, 2))
    assert len(SEEN[-1]) == 2 + 19
    assert {one.raw.version for one in aside} == {1, 2}


@pytest.mark.parametrize("policy", ["raw", lambda _: None], ids=["raw", "aside"])
@pytest.mark.parametrize("length", [3, 20])
def test_an_event_whose_class_is_registered_later_is_decoded_then(policy, length):
    """What caches have folded without it is folded again."""
    registry = EventRegistry()
    seen: list[tuple[int, int]] = []

    def is_decoded(event):
        return not isinstance(event, UndecodedEvent)

    class Counted(eb.Stream[Any, int], category="purse"):
        def initial(self):
            return 0

        def apply(self, state, event, /):
            return state + is_decoded(event)

    class Count(eb.StatefulCommand[int, Any]):
        purse: eb.Declared[Purse]

        def initial(self):
            return 0

        def apply(self, state, recorded, /):
            return state + is_decoded(recorded.event)

        def decide(self, state, /):
            seen.append(state)
            return ()

    class CountByKind(eb.Command):
        purse: eb.Declared[Counted]

        def decide(self):
            seen.append(self.purse.state)
            return ()

    with eb.open("memory:", registry=registry) as store:
        store.append([("purse-1", "later", b"{}")] * length)
        executor = eb.Executor(store, on_undecodable=policy)
        for _ in range(3):
            executor.execute(Count(purse="purse-1"))
            executor.execute(CountByKind(purse="purse-1"))

        @eb.event("later", registry=registry)
        class Later: ...

        executor.execute(Count(purse="purse-1"))
        executor.execute(CountByKind(purse="purse-1"))
    assert seen == [0] * 6 + [length] * 2


# --- states of streams


class PurseState(eb.Stream[PurseEvent, tuple[int, ...]], category="purse"):
    """The amounts of a purse's events, in order."""

    def initial(self):
        return ()

    def apply(self, state, event, /):
        match event:
            case Filled(amount):
                return (*state, amount)
            case Emptied(amount):
                return (*state, -amount)
            case Closed():
                return (*state, 0)


class Fill(eb.Command):
    purse: eb.Declared[PurseState]
    other: eb.Declared[PurseState]
    amount: int

    def decide(self):
        SEEN.append((self.purse.state, self.other.state))
        yield self.purse.write(Filled(self.amount))


def test_the_state_of_a_stream_has_each_part_of_a_record(store):
    """Cold, cached, and after events of an old program that was running meanwhile."""
    executor = eb.Executor(store)
    expected: list[int] = []
    old(store, "purse-2", Adjusted((1, 2)), Shut())
    for number in range(1, 30):
        old(store, "purse-1", Adjusted((number, -number)), Viewed(), Adjusted(()))
        expected += [number, -number]
        for one in (executor, eb.Executor(store), executor):
            one.execute(Fill(purse="purse-1", other="purse-2", amount=number))
            assert SEEN[-1] == (tuple(expected), (1, 2, 0))
            expected.append(number)


def test_the_states_of_executors_with_different_registries_are_apart(store):
    class AnyCount(eb.Stream[Any, int], category="purse"):
        def initial(self):
            return 0

        def apply(self, state, event, /):
            return state + 1

    class Look(eb.Command):
        purse: eb.Declared[AnyCount]

        def decide(self):
            SEEN.append(self.purse.state)
            return ()

    old(store, "purse-1", *[Adjusted((1, 1, 1)), Viewed()] * 10)
    for _ in range(3):
        for registry, count in ((OLD, 20), (NEW, 30)):
            eb.Executor(store, registry=registry).execute(Look(purse="purse-1"))
            assert SEEN[-1] == count


def test_a_state_without_what_is_set_aside_is_for_its_policy_only(damaged):
    aside: list[UndecodedEvent] = []
    careless = eb.Executor(damaged, on_undecodable=aside.append)
    fill = Fill(purse="purse-1", other="purse-2", amount=1)
    for _ in range(3):
        careless.execute(fill)
        with pytest.raises(eb.errors.UnknownEventType):
            eb.Executor(damaged).execute(fill)
    assert [state for state, _ in SEEN] == [(5, 6), (5, 6, 1), (5, 6, 1, 1)]
    assert {one.raw.version for one in aside} == {1, 2}


@pytest.mark.parametrize("policy", ["raw", lambda _: None], ids=["raw", "aside"])
def test_a_state_without_an_undecodable_event_becomes_no_snapshot(store, policy):
    class Total(
        eb.Stream[Filled | UndecodedEvent, int],
        category="purse",
        snapshot_every=5,
    ):
        def initial(self):
            return 0

        def apply(self, state, event, /):
            return state + (event.amount if isinstance(event, Filled) else 0)

    class Add(eb.Command):
        purse: eb.Declared[Total]

        def decide(self):
            yield self.purse.write(Filled(1))

    def snapshots():
        return [*store.read_all(prefix="$snapshot-", system=True)]

    store.append([UNKNOWN])
    careless = eb.Executor(store, on_undecodable=policy)
    for _ in range(20):
        careless.execute(Add(purse="purse-1"))
    assert careless.load(Total("purse-1")).state == 20
    assert snapshots() == []
    with pytest.raises(eb.errors.UnknownEventType):
        eb.Executor(store).load(Total("purse-1"))
    strict = eb.Executor(store)
    for _ in range(20):
        strict.execute(Add(purse="purse-2"))
    assert snapshots()


# --- sagas


class OldPurse(eb.Stream[Adjusted], category="purse"): ...


class Adjust(eb.StatefulCommand[None, Adjusted]):
    purse: eb.Declared[OldPurse]

    def initial(self): ...

    def apply(self, state, recorded, /): ...

    def decide(self, state, /):
        yield self.purse.write(Adjusted((5, -2)))
        yield self.purse.write(Adjusted(()))
        yield self.purse.write(Adjusted((7, 1)))


def saga_of(answers, *, fails):
    def then(state, executed):
        answers.append(executed)
        if fails:
            raise LookupError("the old program dies here")
        return len(executed.events)

    async def after(context) -> None:
        return None

    adjust = eb.local_step("adjust", lambda _: Adjust(purse="purse-1"), then=then)
    return eb.Saga(
        "evolving",
        int,
        steps=[
            adjust.without_compensation(),
            eb.step(
                "after", after, timeout=timedelta(seconds=5)
            ).without_compensation(),
        ],
    )


def test_a_step_of_an_old_program_is_folded_by_a_new_one(tmp_path):
    """The step's positions are those of its records, not of its typed events."""
    answers: list[eb.Executed] = []

    async def old_program():
        saga = saga_of(answers, fails=True)
        async with (
            eb.open_async(tmp_path / "store", registry=OLD) as store,
            eb.SagaCoordinator(store, [saga]) as coordinator,
        ):
            await coordinator.start(saga, 0, id="saga-1")
            with anyio.fail_after(20):
                while not answers:  # noqa: ASYNC110 - `then` has no event loop
                    await anyio.sleep(0.01)

    async def new_program():
        saga = saga_of(answers, fails=False)
        async with (
            eb.open_async(tmp_path / "store", registry=NEW) as store,
            eb.SagaCoordinator(store, [saga]) as coordinator,
        ):
            handle = await coordinator.get(saga, "saga-1")
            with anyio.fail_after(20):
                return await handle.result()

    anyio.run(old_program)
    before = answers.pop()
    assert before.events == (Adjusted((5, -2)), Adjusted(()), Adjusted((7, 1)))
    ended = anyio.run(new_program)
    after = answers.pop()
    assert after.events == (Filled(5), Emptied(2), Filled(7), Filled(1))
    assert ended.state == 4
    for fact in ("first_position", "last_position", "versions"):
        assert getattr(after, fact) == getattr(before, fact)
    assert before.last_position == before.first_position + 2
