"""A small world for tests of sagas: a ledger of commands and an outside receiver.

The receiver honours idempotency keys and keeps what took effect. The store around a
store dies at a chosen append, before or after it, as a process would.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field, replace
from datetime import timedelta

import anyio

import eventbraid as eb

SECOND = timedelta(seconds=1)
MINUTE = timedelta(minutes=1)
HOUR = timedelta(hours=1)
SOON = timedelta(milliseconds=1)
MAXIMUM_CRASHES = 2
# The next attempt comes long after the test has ended, on a busy machine, too.
SLEEPY = eb.RetryPolicy(
    maximum_attempts=30, initial_delay=HOUR, maximum_delay=HOUR, jitter="none"
)
QUICK = eb.RetryPolicy(maximum_attempts=3, initial_delay=SOON, maximum_delay=SOON)


@eb.event("saga-kit.noted")
class Noted:
    """A step's mark in the saga's ledger stream."""

    what: str


class Ledger(eb.Stream[Noted], category="ledger"):
    """What a saga's commands did."""


class Note(eb.StatefulCommand[list[str], Noted]):
    """Writes a mark, unless a rule says no."""

    ledger: eb.Declared[Ledger]
    what: str
    unless: str = ""

    def initial(self):
        return []

    def apply(self, state, recorded, /):
        return [*state, recorded.event.what]

    def decide(self, state, /):
        eb.require(not self.unless, self.unless or "-", seen=len(state))
        yield self.ledger.write(Noted(self.what))


def ledger_of(saga_id: str) -> str:
    return f"ledger-{saga_id}"


def note(what: str, *, unless: str = ""):
    """Make commands for `local_step`, `record=` and the rest."""

    def make(context, *_):
        return Note(ledger=ledger_of(context.saga_id), what=what, unless=unless)

    return make


def note_step(before: str = "", *, unless: str = ""):
    """Make commands that note the name of the step, which may be that of an item's."""

    def make(context, *_):
        what = f"{before}{context.step}"
        return Note(ledger=ledger_of(context.saga_id), what=what, unless=unless)

    return make


class Declined(Exception):
    """The receiver said no: nothing happened."""


@dataclass
class Receiver:
    """An external service that honours idempotency keys and records its effects.

    Attributes:
        effects: What took effect, by its key.
        voided: Keys whose effect is compensated, or will be if it comes yet.
        compensated: Keys of compensations that took effect.
        calls: How often each key was called.
        plan: For a step, what happens on its calls, one after the other, the last one
            for good: "ok", "decline", "lose" (an effect, no answer), "drop" (no effect,
            no answer), "hang" (an effect, then a timeout), "stall" (a timeout).
    """

    plan: dict[str, list[str]] = field(default_factory=dict)
    effects: dict[str, str] = field(default_factory=dict)
    voided: set[str] = field(default_factory=set)
    compensated: set[str] = field(default_factory=set)
    calls: Counter[str] = field(default_factory=Counter)
    log: list[str] = field(default_factory=list)

    async def do(self, step: str, key: str) -> str:
        self.calls[key] += 1
        await anyio.lowlevel.checkpoint()
        behaviour = self._behaviour(step)
        if behaviour in {"ok", "lose", "hang"}:
            self.take_effect(step, key)
        return await self._answer(step, key, behaviour)

    async def compensate(self, step: str, forward_key: str, key: str) -> str:
        self.calls[key] += 1
        await anyio.lowlevel.checkpoint()
        behaviour = self._behaviour(f"compensate {step}")
        if behaviour in {"ok", "lose", "hang"}:
            if key not in self.compensated:
                self.log.append(f"compensate {step}")
            self.compensated.add(key)
            self.voided.add(forward_key)
        return await self._answer(step, key, behaviour)

    def knows(self, key: str) -> str | None:
        return f"receipt {key}" if key in self.effects else None

    def take_effect(self, step: str, key: str) -> None:
        if key not in self.effects:
            self.log.append(step)
        self.effects[key] = step

    def standing(self) -> list[str]:
        """The steps whose effect stands."""
        return sorted(
            step for key, step in self.effects.items() if key not in self.voided
        )

    def _behaviour(self, step: str) -> str:
        planned = self.plan.get(step)
        if not planned:
            return "ok"
        return planned.pop(0) if len(planned) > 1 else planned[0]

    async def _answer(self, step: str, key: str, behaviour: str) -> str:
        match behaviour:
            case "ok":
                return f"receipt {key}"
            case "decline":
                raise Declined(f"{step} declined")
            case "lose" | "drop":
                raise ConnectionError(f"{step} lost")
            case "hang" | "stall":
                await anyio.sleep_forever()
        raise AssertionError(behaviour)


# Deadlines for a saga that must reach a certain step before its deadline: where a busy
# machine takes longer than the first one, the next one is tried.
DEADLINES = [0.1 * SECOND, 0.5 * SECOND, 2 * SECOND, 10 * SECOND]


@dataclass(frozen=True)
class Trip:
    """The state of the test sagas."""

    who: str
    receipts: tuple[str, ...] = ()


def timeout_of(receiver: Receiver, step: str) -> timedelta:
    """Return the timeout of a step's calls, as its plan needs it.

    It is short only where a call never returns: a busy machine may stop this process for
    longer, and a call that would succeed would then have a second attempt.
    """
    never_returns = {"hang", "stall"} & {*receiver.plan.get(step, ())}
    return 0.25 * SECOND if never_returns else 30 * SECOND


def outside(receiver: Receiver, name: str, **options):
    """An external step at the receiver, with a compensation unless told otherwise."""
    compensation_retry = options.pop("compensation_retry", QUICK)
    compensation_record = options.pop("compensation_record", None)
    compensatable = options.pop("compensatable", options.get("kind") is None)
    options.setdefault("timeout", timeout_of(receiver, name))
    options.setdefault("retry", QUICK)
    options.setdefault("refusals", (Declined,))
    crashes = options.setdefault("maximum_crashes", MAXIMUM_CRASHES)
    options.setdefault("record", note_step())
    options.setdefault(
        "then", lambda trip, receipt: replace(trip, receipts=(*trip.receipts, receipt))
    )

    async def act(context: eb.StepContext[Trip]) -> str:
        return await receiver.do(context.step, context.idempotency_key)

    async def compensate(
        context: eb.StepContext[Trip], did: eb.StepCompleted[str] | eb.StepInDoubt
    ) -> str:
        if isinstance(did, eb.StepCompleted):
            assert did.result == f"receipt {context.forward_key}"
        return await receiver.compensate(
            context.step, context.forward_key, context.idempotency_key
        )

    step = eb.step(name, act, **options)
    if not compensatable:
        return step
    return step.compensated_by(
        compensate,
        retry=compensation_retry,
        refusals=(Declined,),
        maximum_crashes=crashes,
        timeout=timeout_of(receiver, f"compensate {name}"),
        record=compensation_record,
    )


def inside(name: str, *, unless: str = "", **options):
    """A local step that notes its name, with a compensation that notes its own."""
    compensate_unless = options.pop("compensate_unless", "")
    compensate_retry = options.pop(
        "compensate_retry", eb.RetryPolicy(maximum_attempts=1)
    )
    compensatable = options.get("kind") is not eb.StepKind.RETRIABLE
    crashes = options.setdefault("maximum_crashes", MAXIMUM_CRASHES)
    step = eb.local_step(name, note_step(unless=unless), **options)
    if not compensatable:
        return step
    return step.compensated_by(
        note_step("compensate ", unless=compensate_unless),
        retry=compensate_retry,
        maximum_crashes=crashes,
    )


def trip(*steps, name: str = "trip", **options) -> eb.Saga[Trip]:
    return eb.Saga(name, Trip, steps=list(steps), **options)


async def notes(store: eb.AsyncEventStore, saga_id: str) -> list[str]:
    """What the saga's commands noted, in order."""
    return [
        eb.decode_event(recorded).what
        async for recorded in store.read_stream(ledger_of(saga_id))
    ]


async def records(store: eb.AsyncEventStore, saga_id: str) -> list[str]:
    """The types of the saga's records, without their common prefix."""
    return [
        recorded.type.removeprefix("saga.")
        async for recorded in store.read_stream(saga_id)
    ]


async def recorded(store: eb.AsyncEventStore, saga_id: str, what: str) -> None:
    """Wait until something is recorded of a saga."""
    async with store.subscribe(prefix=saga_id, types=[f"saga.{what}"]) as news:
        await anext(news)


class Crash(eb.errors.StoreClosed):
    """The process has died, as far as the store can tell."""


LEASES = ("$lease-", "$saga-coordinators")


def is_about_leases(events) -> bool:
    """Whether an append takes or releases leases, or announces who takes them."""
    streams = [event.stream for event in events]
    return bool(streams) and all(stream.startswith(LEASES) for stream in streams)


class MortalStore:
    """A store whose process dies at its n-th append, leases not counted.

    Args:
        store: The store, which lives on.
        dies_at: The number of the append; None: it lives.
        after: Whether that append is still committed.
    """

    def __init__(
        self,
        store: eb.AsyncEventStore,
        dies_at: int | None = None,
        *,
        after: bool = False,
    ) -> None:
        self._store = store
        self._dies_at = dies_at
        self._after = after
        self.appends = 0
        self.dead = False

    async def append(self, events, **options):
        if self.dead:
            raise Crash
        if is_about_leases(events):
            return await self._store.append(events, **options)
        self.appends += 1
        if self.appends != self._dies_at:
            return await self._store.append(events, **options)
        if self._after:
            await self._store.append(events, **options)
        self.dead = True
        raise Crash

    def __getattr__(self, name: str):
        return getattr(self._store, name)
