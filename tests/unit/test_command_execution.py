"""Rules 21 to 27 of the store's semantics, one test or more for each.

Every test runs without an event loop and on asyncio and trio.
"""

from __future__ import annotations

import dataclasses
import inspect
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import anyio
import pytest

import eventbraid as eb
from eventbraid.command._loop_port import LoopPort
from eventbraid.command._thread_port import ThreadPort
from tests.commands import (
    Account,
    AsyncMeddled,
    Bank,
    Deposit,
    Deposited,
    Group,
    Joined,
    Limit,
    LimitSet,
    Money,
    PayAll,
    SyncMeddled,
    Transfer,
    Withdrawn,
    raw,
)

pytestmark = pytest.mark.anyio

A, B, LIMIT, GROUP = "account-a", "account-b", "limit-eu", "group-1"
TRANSFER = Transfer(source=A, target=B, limit=LIMIT, amount=Money(100))
ONCE = eb.RetryPolicy(maximum_attempts=1)


async def settled(answer: Any) -> Any:
    return await answer if inspect.isawaitable(answer) else answer


@pytest.fixture(params=["sync", "async"])
async def bank(request):
    if request.param == "sync":
        with eb.open("memory:") as store:
            yield Bank(SyncMeddled(store), eb.Executor, settled)
    else:
        async with eb.open_async("memory:") as store:
            yield Bank(AsyncMeddled(store), eb.AsyncExecutor, settled)


# --- what a command does -------------------------------------------------------------


async def test_a_command_reads_decides_and_appends(bank):
    await bank.given((A, Deposited(Money(500))))
    done = await bank.execute(TRANSFER)
    assert done.events == (Withdrawn(Money(100)), Deposited(Money(100)))
    assert dict(done.versions) == {A: 2, B: 1}
    assert (done.read_position, done.first_position, done.last_position) == (1, 2, 3)
    assert (done.attempts, done.replayed) == (1, False)
    assert await bank.events(B) == [Deposited(Money(100))]


async def test_one_read_and_one_append_are_all_it_takes(bank):
    await bank.given((A, Deposited(Money(500))))
    await bank.execute(TRANSFER)
    assert bank.store.asked == ["read_streams", "append"]


async def test_a_rule_that_says_no_writes_nothing(bank):
    await bank.given((A, Deposited(Money(50))))
    with pytest.raises(eb.CommandRejected) as rejected:
        await bank.execute(TRANSFER)
    assert rejected.value.code == "insufficient_funds"
    assert rejected.value.facts == {"left": 50}
    assert await bank.head() == 1


async def test_a_schema_version_is_kept_and_read_back(bank):
    class SetLimit(eb.StatefulCommand[None, LimitSet]):
        limit: eb.Declared[Limit]

        def initial(self): ...
        def apply(self, state, recorded, /): ...
        def decide(self, state, /):
            yield self.limit.write(LimitSet(Money(60)))

    await bank.execute(SetLimit(limit=LIMIT))
    [recorded] = await bank.recorded(LIMIT)
    assert dict(recorded.metadata) == {"v": "2"}
    await bank.given((A, Deposited(Money(500))))
    with pytest.raises(eb.CommandRejected, match="limit_exceeded"):
        await bank.execute(TRANSFER)


async def test_metadata_goes_on_each_event_and_its_own_comes_on_top(bank):
    class Noted(Deposit):
        def decide(self, state, /):
            yield self.account.write(Deposited(self.amount))
            yield self.account.write(Deposited(self.amount), metadata={"by": "mia"})

    metadata = {"correlation_id": "request-1", "by": "web"}
    await bank.execute(Noted(account=A, amount=Money(1)), metadata=metadata)
    first, second = await bank.recorded(A)
    assert dict(first.metadata) == metadata
    assert dict(second.metadata) == {"correlation_id": "request-1", "by": "mia"}
    assert second.correlation_id == "request-1"


HAPPENED = datetime(1999, 12, 31, 23, 30, tzinfo=timezone(timedelta(hours=2)))


class Meter(eb.Stream[Deposited, Money], category="meter"):
    def initial(self):
        return Money(0)

    def apply(self, state, event, /):
        return state + event.amount


class Import(eb.Command):
    """Needs neither a retry nor a discovery, so it takes the short way."""

    meter: eb.Declared[Meter]
    happened: datetime

    def decide(self):
        event = Deposited(self.meter.state + Money(1))
        yield self.meter.write(event, original_time=self.happened)
        yield self.meter.write(event)


@pytest.mark.parametrize("key", [None, "key"])
async def test_a_write_has_the_time_at_which_its_event_happened(bank, key):
    """Without a key by the short way, and with a key by the general one."""
    also = [
        eb.Write("meter-2", Deposited(Money(1)), original_time=HAPPENED),
        eb.Write("meter-2", Deposited(Money(1))),
    ]
    command = Import(meter="meter-1", happened=HAPPENED)
    for _ in range(2):
        await bank.execute(command, idempotency_key=key, also=also if key else ())
    recorded = await bank.recorded("meter-1")
    times = [one.original_time for one in recorded]
    assert times == [HAPPENED, None] * (1 if key else 2)
    assert all(time is None or time.tzinfo is UTC for time in times)
    if key:
        further = [one.original_time for one in await bank.recorded("meter-2")]
        assert further == [HAPPENED, None]


async def test_a_command_that_folds_its_streams_sets_and_reads_original_times(bank):
    class Latest(Deposit):
        def initial(self):
            return None

        def apply(self, state, recorded, /):
            return recorded.original_time or state

        def decide(self, state, /):
            later = HAPPENED if state is None else state + timedelta(days=1)
            yield self.account.write(Deposited(self.amount), original_time=later)

    for _ in range(2):
        await bank.execute(Latest(account=A, amount=Money(1)))
    times = [recorded.original_time for recorded in await bank.recorded(A)]
    assert times == [HAPPENED, HAPPENED + timedelta(days=1)]


async def test_original_times_are_no_content_of_a_keyed_command(bank):
    """The content is the command's fields; the times of its writes come from them."""
    command = Import(meter="meter-1", happened=HAPPENED)
    also = [eb.Write("meter-2", Deposited(Money(1)), original_time=HAPPENED)]
    first = await bank.execute(command, idempotency_key="key", also=also)
    later = [replace(also[0], original_time=HAPPENED + timedelta(1))]
    again = await bank.execute(command, idempotency_key="key", also=later)
    assert (again.replayed, again.last_position) == (True, first.last_position)
    assert [one.original_time for one in await bank.recorded("meter-2")] == [HAPPENED]
    other = Import(meter="meter-1", happened=HAPPENED + timedelta(1))
    with pytest.raises(eb.errors.IdempotencyMismatch):
        await bank.execute(other, idempotency_key="key")


@pytest.mark.parametrize(
    ("time", "error"),
    [
        (datetime(2000, 1, 1), eb.errors.InvalidArgument),  # noqa: DTZ001 - refused
        ("2000-01-01", TypeError),
    ],
)
async def test_an_original_time_without_a_time_zone_is_refused(bank, time, error):
    class Faulty(Deposit):
        def decide(self, state, /):
            yield self.account.write(Deposited(self.amount), original_time=time)

    also = [eb.Write(A, Deposited(Money(1)), original_time=time)]
    with pytest.raises(error, match="original.time"):
        await bank.execute(Faulty(account=A, amount=Money(1)))
    with pytest.raises(error, match="original.time"):
        await bank.execute(Deposit(account=A, amount=Money(1)), also=also)
    assert await bank.head() == 0


async def test_the_key_of_the_schema_version_is_the_librarys_own(bank):
    with pytest.raises(eb.errors.InvalidArgument, match="schema version"):
        await bank.execute(Deposit(account=A, amount=Money(1)), metadata={"v": "1"})


async def test_consequences_are_linked_to_their_cause(bank):
    await bank.given((A, Deposited(Money(1))))
    [cause] = await bank.recorded(A)
    source = cause
    for stream in (B, "account-c"):
        command = Deposit(account=stream, amount=Money(1))
        await bank.execute(command, metadata=eb.command.caused_by(source))
        [recorded] = await bank.recorded(stream)
        assert recorded.causation_id == str(source.event_id)
        assert recorded.correlation_id == str(cause.event_id)
        source = recorded


# --- 21: only declared and discovered streams are written ----------------------------


async def test_21_a_write_to_an_undeclared_stream_is_refused(bank):
    class Astray(Deposit):
        def decide(self, state, /):
            yield self.discovered(Account(B)).write(Deposited(self.amount))

    with pytest.raises(eb.errors.UndeclaredStream) as refused:
        await bank.execute(Astray(account=A, amount=Money(1)))
    assert (refused.value.stream, refused.value.command) == (B, "Astray")
    assert refused.value.declared == (A,)
    assert A in str(refused.value)
    assert await bank.head() == 0


async def test_21_a_handle_of_another_command_is_refused(bank):
    other = Deposit(account=A, amount=Money(9))

    class Borrowed(Deposit):
        def decide(self, state, /):
            yield other.account.write(Deposited(self.amount))

    with pytest.raises(eb.errors.InvalidArgument, match=r"Borrowed.*another command"):
        await bank.execute(Borrowed(account=A, amount=Money(1)))


@pytest.mark.parametrize(
    "thing", [None, "account-a", Deposited(Money(1)), (A, 1)], ids=repr
)
async def test_21_what_is_no_write_is_refused(bank, thing):
    class Confused(Deposit):
        def decide(self, state, /):
            yield thing

    with pytest.raises(
        eb.errors.InvalidArgument, match=r"decision of Confused.*write\(\)"
    ):
        await bank.execute(Confused(account=A, amount=Money(1)))


async def test_21_a_decision_that_is_no_iterable_is_refused(bank):
    class Single(Deposit):
        def decide(self, state, /):
            return self.account.write(Deposited(self.amount))

    class Forgetful(Deposit):
        def decide(self, state, /):
            return None

    for kind in (Single, Forgetful):
        with pytest.raises(
            eb.errors.InvalidArgument, match=f"decision of {kind.__name__}"
        ):
            await bank.execute(kind(account=A, amount=Money(1)))


async def test_21_an_event_that_the_stream_does_not_hold_is_refused(bank):
    class Foreign(Deposit):
        def decide(self, state, /):
            yield self.account.write(LimitSet(self.amount))

    with pytest.raises(
        eb.errors.InvalidArgument, match=r"LimitSet.*holds only Deposited"
    ):
        await bank.execute(Foreign(account=A, amount=Money(1)))


async def test_21_an_event_of_an_unregistered_class_is_refused(bank):
    class Stranger: ...

    class Strangers(eb.Stream[Stranger], category="stranger"): ...

    class Strange(eb.StatefulCommand[None, Stranger]):
        stream: eb.Declared[Strangers]

        def initial(self): ...
        def apply(self, state, recorded, /): ...
        def decide(self, state, /):
            yield self.stream.write(Stranger())

    with pytest.raises(eb.errors.InvalidArgument, match=r"Stranger.*@event"):
        await bank.execute(Strange(stream="stranger-1"))


# --- 22: all streams take part in the check ------------------------------------------


@pytest.mark.parametrize("stream", [A, B, LIMIT])
async def test_22_a_change_of_any_stream_is_a_conflict_even_if_it_is_only_read(
    bank, stream
):
    await bank.given((A, Deposited(Money(500))))
    change = LimitSet(Money(500)) if stream == LIMIT else Deposited(Money(1))
    bank.store.before.append([raw(stream, change)])
    with pytest.raises(eb.errors.RetriesExhausted) as exhausted:
        await bank.execute(TRANSFER, retry=ONCE)
    [failure] = exhausted.value.last.failures
    assert failure.stream == stream
    assert await bank.head() == 2


async def test_22_discovered_streams_are_checked_too(bank):
    await bank.given((GROUP, Joined(A)))
    bank.store.before.append([raw(A, Deposited(Money(1)))])
    with pytest.raises(eb.errors.RetriesExhausted):
        await bank.execute(PayAll(group=GROUP, amount=Money(1)), retry=ONCE)


async def test_22_a_stream_that_was_only_read_decides_the_second_attempt(bank):
    await bank.given((A, Deposited(Money(500))))
    bank.store.before.append([raw(LIMIT, LimitSet(Money(60)))])
    with pytest.raises(eb.CommandRejected, match="limit_exceeded"):
        await bank.execute(TRANSFER)


# --- 23: discovery -------------------------------------------------------------------


async def test_23_discovered_streams_are_read_at_the_first_position(bank):
    await bank.given((GROUP, Joined(A)), (GROUP, Joined(B)), (A, Deposited(Money(1))))
    done = await bank.execute(PayAll(group=GROUP, amount=Money(5)))
    assert bank.store.read == [([GROUP], None, None), ([A, B], 3, None)]
    assert dict(done.versions) == {A: 2, B: 1}


async def test_23_the_state_is_folded_anew_from_the_start_in_global_order(bank):
    seen: list[list[int]] = []

    class Watching(PayAll):
        def initial(self):
            seen.append([])
            return ()

        def apply(self, state, recorded, /):
            seen[-1].append(recorded.position)
            return super().apply(state, recorded)

    await bank.given(
        (A, Deposited(Money(1))),
        (GROUP, Joined(A)),
        (A, Deposited(Money(2))),
        (GROUP, Joined(B)),
        (B, Deposited(Money(3))),
    )
    await bank.execute(Watching(group=GROUP, amount=Money(1)))
    assert seen == [[2, 4], [1, 2, 3, 4, 5]]


async def test_23_discovery_goes_on_until_nothing_new_is_asked_for(bank):
    class Chain(eb.StatefulCommand[tuple[str, ...], Joined]):
        group: eb.Declared[Group]

        def initial(self):
            return ()

        def apply(self, state, recorded, /):
            return (*state, recorded.event.account)

        def discover(self, state, /):
            return [Group(group) for group in state]

        def decide(self, state, /):
            yield self.discovered(Group(state[-1])).write(Joined("end"))

    await bank.given(*[(f"group-{n}", Joined(f"group-{n + 1}")) for n in range(1, 6)])
    done = await bank.execute(Chain(group=GROUP))
    assert dict(done.versions) == {"group-6": 1}
    assert [streams for streams, _, _ in bank.store.read] == [
        [f"group-{n}"] for n in range(1, 7)
    ]
    assert {at for _, at, _ in bank.store.read[1:]} == {5}


class Endless(eb.StatefulCommand[int, Joined]):
    group: eb.Declared[Group]
    width: int

    def initial(self):
        return 0

    def apply(self, state, recorded, /):
        return state

    def discover(self, state, /):
        Endless.asked += 1
        return [Group(f"group-{Endless.asked}-{n}") for n in range(self.width)]

    def decide(self, state, /):
        return ()


@pytest.mark.parametrize(("limit", "options"), [(16, {}), (3, {"rounds": 3})])
async def test_23_the_rounds_of_discovery_are_bounded(bank, limit, options):
    Endless.asked = 0
    with pytest.raises(eb.errors.DiscoveryLimit) as limited:
        await bank.execute(Endless(group=GROUP, width=1), **options)
    assert (limited.value.what, limited.value.limit) == ("rounds", limit)
    assert limited.value.command == "Endless"
    assert len(bank.store.read) == limit + 1


@pytest.mark.parametrize(
    ("width", "limit", "options"), [(1001, 1000, {}), (8, 7, {"streams": 7})]
)
async def test_23_the_streams_of_discovery_are_bounded(bank, width, limit, options):
    Endless.asked = 0
    with pytest.raises(eb.errors.DiscoveryLimit) as limited:
        await bank.execute(Endless(group=GROUP, width=width), **options)
    assert (limited.value.what, limited.value.limit) == ("streams", limit)
    assert len(bank.store.read) == 1


async def test_23_a_discovered_stream_must_hold_what_the_command_applies(bank):
    class Uncovered(PayAll):
        def discover(self, state, /):
            return [Limit(LIMIT)]

    with pytest.raises(
        eb.errors.InvalidArgument, match=r"discovery of Uncovered.*LimitSet"
    ):
        await bank.execute(Uncovered(group=GROUP, amount=Money(1)))


@pytest.mark.parametrize("wrong", [None, [A], [None], "account-a"], ids=repr)
async def test_23_what_is_no_stream_cannot_be_discovered(bank, wrong):
    class Lost(PayAll):
        def discover(self, state, /):
            return wrong

    with pytest.raises(eb.errors.InvalidArgument, match="discovery of Lost"):
        await bank.execute(Lost(group=GROUP, amount=Money(1)))


async def test_23_a_declared_stream_may_be_asked_for_again(bank):
    class Again(Deposit):
        def discover(self, state, /):
            return [Account(self.account)]

    done = await bank.execute(Again(account=A, amount=Money(1)))
    assert len(bank.store.read) == 1
    assert dict(done.versions) == {A: 1}


# --- 24: conflicts -------------------------------------------------------------------


async def test_24_after_a_conflict_the_command_is_retried_with_the_new_events(bank):
    await bank.given((A, Deposited(Money(50))))
    bank.store.before.append([raw(B, Deposited(Money(1)))])
    bank.store.before.append([raw(A, Deposited(Money(100)))])
    done = await bank.execute(dataclasses.replace(TRANSFER, amount=Money(40)))
    assert done.attempts == 3
    assert bank.store.read == [
        ([A, B, LIMIT], None, None),
        ([A, B, LIMIT], None, {A: 1, B: 0, LIMIT: 0}),
        ([A, B, LIMIT], None, {A: 1, B: 1, LIMIT: 0}),
    ]


async def test_24_only_what_is_new_is_folded_onto_a_state_that_cannot_change(bank):
    applied: list[int] = []

    class Watching(Deposit):
        def apply(self, state, recorded, /):
            applied.append(recorded.position)
            return state + 1

    await bank.given((A, Deposited(Money(1))), (A, Deposited(Money(1))))
    bank.store.before.append([raw(A, Deposited(Money(1)))])
    await bank.execute(Watching(account=A, amount=Money(1)))
    assert applied == [1, 2, 3]


async def test_24_a_state_that_decide_changed_is_not_used_again(bank):
    class Spoiling(eb.StatefulCommand[list[int], Deposited | Withdrawn]):
        account: eb.Declared[Account]

        def initial(self):
            return []

        def apply(self, state, recorded, /):
            state.append(recorded.position)
            return state

        def decide(self, state, /):
            decided_on.append(list(state))
            state.clear()
            yield self.account.write(Deposited(Money(1)))

    decided_on: list[list[int]] = []
    await bank.given((A, Deposited(Money(1))))
    bank.store.before.append([raw(A, Deposited(Money(2)))])
    bank.store.before.append([raw(A, Deposited(Money(3)))])
    done = await bank.execute(Spoiling(account=A))
    assert decided_on == [[1], [1, 2], [1, 2, 3]]
    assert done.attempts == 3


async def test_24_if_discovery_asks_for_the_same_streams_only_what_is_new_is_read(bank):
    applied: list[int] = []

    class Watching(PayAll):
        def apply(self, state, recorded, /):
            applied.append(recorded.position)
            return super().apply(state, recorded)

    await bank.given((GROUP, Joined(A)), (A, Deposited(Money(1))))
    bank.store.before.append([raw(A, Deposited(Money(1)))])
    await bank.execute(Watching(group=GROUP, amount=Money(1)))
    assert bank.store.read[2:] == [([GROUP, A], None, {GROUP: 1, A: 1})]
    assert applied == [1, 1, 2, 3]


async def test_24_if_discovery_asks_for_other_streams_the_fold_starts_anew(bank):
    class Latest(PayAll):
        """Only the account that joined last."""

        def discover(self, state, /):
            return [Account(account) for account in state[-1:]]

        def decide(self, state, /):
            folded.append(self.seen[:])
            for account in state[-1:]:
                yield self.discovered(Account(account)).write(Deposited(self.amount))

        seen: list[int] = dataclasses.field(default_factory=list)

        def initial(self):
            self.seen.clear()
            return ()

        def apply(self, state, recorded, /):
            self.seen.append(recorded.position)
            return super().apply(state, recorded)

    folded: list[list[int]] = []
    await bank.given(
        (A, Deposited(Money(1))), (B, Deposited(Money(1))), (GROUP, Joined(A))
    )
    bank.store.before.append([raw(GROUP, Joined(B)), raw(A, Deposited(Money(2)))])
    done = await bank.execute(Latest(group=GROUP, amount=Money(7)))
    assert folded == [[1, 3], [2, 3, 4]]
    assert dict(done.versions) == {B: 2}
    assert bank.store.read[-1] == ([B], 5, None)


async def test_24_streams_that_are_no_longer_asked_for_are_no_longer_checked(bank):
    class First(PayAll):
        def discover(self, state, /):
            return [Account(account) for account in state[-1:]]

        def decide(self, state, /):
            yield self.group.write(Joined("account-z"))

    await bank.given((GROUP, Joined(A)))
    bank.store.before.append([raw(GROUP, Joined(B))])
    bank.store.before.append([raw(A, Deposited(Money(1)))])
    done = await bank.execute(First(group=GROUP, amount=Money(7)))
    assert done.attempts == 2


async def test_24_streams_that_are_no_longer_asked_for_are_no_longer_written(bank):
    class Stubborn(PayAll):
        def discover(self, state, /):
            return [Account(account) for account in state[-1:]]

        def decide(self, state, /):
            yield self.discovered(Account(A)).write(Deposited(self.amount))

    await bank.given((GROUP, Joined(A)))
    bank.store.before.append([raw(GROUP, Joined(B))])
    with pytest.raises(eb.errors.UndeclaredStream) as refused:
        await bank.execute(Stubborn(group=GROUP, amount=Money(7)))
    assert (refused.value.stream, refused.value.declared) == (A, (GROUP, B))


async def test_24_attempts_are_limited(bank):
    for n in range(5):
        bank.store.before.append([raw(A, Deposited(Money(n)))])
    with pytest.raises(eb.errors.RetriesExhausted) as exhausted:
        await bank.execute(
            Deposit(account=A, amount=Money(1)),
            retry=eb.RetryPolicy(maximum_attempts=3),
        )
    assert exhausted.value.attempts == 3
    assert isinstance(exhausted.value.last, eb.VersionConflict)
    assert isinstance(exhausted.value.__cause__, eb.VersionConflict)
    assert len(await bank.events(A)) == 3


async def test_24_time_is_limited(bank):
    for n in range(50):
        bank.store.before.append([raw(A, Deposited(Money(n)))])
    retry = eb.RetryPolicy(
        maximum_attempts=1000,
        initial_delay=timedelta(milliseconds=20),
        backoff_factor=1,
        jitter="none",
    )
    command = Deposit(account=A, amount=Money(1))
    with pytest.raises(eb.errors.RetriesExhausted) as exhausted:
        await bank.execute(
            command, retry=retry, retry_timeout=timedelta(milliseconds=50)
        )
    assert 1 <= exhausted.value.attempts <= 4


async def test_24_rejections_are_never_tried_again(bank):
    with pytest.raises(eb.CommandRejected):
        await bank.execute(TRANSFER)
    assert bank.store.asked == ["read_streams"]


async def test_no_attempt_begins_after_the_deadline(bank):
    deposit = Deposit(account=A, amount=Money(1))
    for passed in [timedelta(0), datetime.now(UTC) - timedelta(seconds=1)]:
        with pytest.raises(eb.errors.DeadlineExceeded) as late:
            await bank.execute(deposit, deadline=passed)
        assert (late.value.command, late.value.attempts) == ("Deposit", 0)
    assert bank.store.asked == []
    bank.store.before.append([raw(A, Deposited(Money(1)))])
    slow = eb.RetryPolicy(
        initial_delay=timedelta(seconds=9), maximum_delay=timedelta(9), jitter="none"
    )
    with pytest.raises(eb.errors.DeadlineExceeded) as late:
        await bank.execute(deposit, retry=slow, deadline=timedelta(seconds=5))
    assert late.value.attempts == 1
    assert isinstance(late.value.last, eb.VersionConflict)
    assert (await bank.execute(deposit, deadline=timedelta(seconds=5))).attempts == 1


async def test_a_deadline_needs_a_time_zone(bank):
    with pytest.raises(eb.errors.InvalidArgument, match="time zone"):
        await bank.execute(TRANSFER, deadline=datetime(2099, 1, 1))  # noqa: DTZ001


# --- 25: idempotency keys ------------------------------------------------------------


async def test_25_the_same_key_answers_the_original_result(bank):
    await bank.given((A, Deposited(Money(500))))
    first = await bank.execute(TRANSFER, idempotency_key="key")
    await bank.given((A, Deposited(Money(1))), (B, Deposited(Money(1))))
    bank.store.asked.clear()
    again = await bank.execute(TRANSFER, idempotency_key="key")
    assert again == dataclasses.replace(first, replayed=True)
    assert bank.store.asked == ["committed", "read_all"]
    assert await bank.head() == 5


async def test_25_decide_is_not_called_for_a_replay(bank):
    class Counting(Deposit):
        def decide(self, state, /):
            calls.append(state)
            return super().decide(state)

    calls: list[int] = []
    for _ in range(2):
        await bank.execute(Counting(account=A, amount=Money(1)), idempotency_key="k")
    assert len(calls) == 1


@pytest.mark.parametrize(
    "other",
    [
        dataclasses.replace(TRANSFER, amount=Money(101)),
        dataclasses.replace(TRANSFER, target="account-c"),
        Deposit(account=A, amount=Money(100)),
    ],
    ids=["amount", "stream", "class"],
)
async def test_25_the_same_key_for_another_command_is_a_mismatch(bank, other):
    await bank.given((A, Deposited(Money(500))))
    await bank.execute(TRANSFER, idempotency_key="key")
    with pytest.raises(eb.errors.IdempotencyMismatch) as mismatch:
        await bank.execute(other, idempotency_key="key")
    assert mismatch.value.key == "key"


async def test_25_an_equal_command_has_equal_content(bank):
    await bank.given((A, Deposited(Money(500))))
    await bank.execute(TRANSFER, idempotency_key="key")
    equal = Transfer(
        amount=Money(100), limit=Limit(LIMIT), target=Account(B), source=Account(A)
    )
    assert (await bank.execute(equal, idempotency_key="key")).replayed


async def test_25_whoever_comes_first_under_a_key_both_get_the_one_result(bank):
    """Another process does the same request between our look-up and our append."""
    deposit = Deposit(account=A, amount=Money(3))
    bank.store.rival = lambda: bank.rival(deposit, idempotency_key="key")
    done = await bank.execute(deposit, idempotency_key="key")
    assert (done.replayed, done.events) == (True, (Deposited(Money(3)),))
    assert dict(done.versions) == {A: 1}
    assert await bank.events(A) == [Deposited(Money(3))]


async def test_25_the_order_of_a_mapping_is_no_content(bank):
    class Tagged(Deposit):
        tags: dict[str, int]

    for tags in ({"x": 1, "y": 2}, {"y": 2, "x": 1}):
        command = Tagged(account=A, amount=Money(1), tags=tags)
        done = await bank.execute(command, idempotency_key="key")
    assert done.replayed


async def test_25_a_command_may_have_a_name_that_outlives_its_class(bank):
    class First(Deposit, name="deposit"): ...

    class Moved(Deposit, name="deposit"): ...

    fields = {"account": A, "amount": Money(3)}
    await bank.execute(First(**fields), idempotency_key="key")
    assert (await bank.execute(Moved(**fields), idempotency_key="key")).replayed


async def test_25_after_a_conflict_the_key_comes_before_the_read(bank):
    bank.store.before.append([raw(A, Deposited(Money(1)))])
    await bank.execute(Deposit(account=A, amount=Money(1)), idempotency_key="key")
    assert bank.store.asked == ["committed", "read_streams", "append"] * 2


async def test_25_an_answer_that_was_lost_is_found_by_the_key(bank):
    bank.store.losing = 1
    done = await bank.execute(
        Deposit(account=A, amount=Money(3)), idempotency_key="key"
    )
    assert done.replayed
    assert done.events == (Deposited(Money(3)),)
    assert done.attempts == 1
    assert len(await bank.events(A)) == 1


async def test_25_a_lost_answer_is_found_even_when_no_attempt_is_left(bank):
    bank.store.losing = 1
    deposit = Deposit(account=A, amount=Money(3))
    done = await bank.execute(deposit, idempotency_key="key", retry=ONCE)
    assert (done.replayed, done.attempts) == (True, 1)


async def test_25_a_store_that_cannot_be_asked_leaves_the_doubt(bank):
    bank.store.rival = bank.store.inner.close
    bank.store.failing = 1
    with pytest.raises(eb.OutcomeUnknown) as unknown:
        await bank.execute(Deposit(account=A, amount=Money(3)), idempotency_key="key")
    assert isinstance(unknown.value.__cause__, eb.errors.StoreClosed)


async def test_25_an_interruption_after_a_doubt_says_so(bank):
    class Interrupted(Deposit):
        def decide(self, state, /):
            if bank.store.failing == 0:
                raise KeyboardInterrupt
            return super().decide(state)

    bank.store.failing = 1
    command = Interrupted(account=A, amount=Money(3))
    with pytest.raises(KeyboardInterrupt) as interrupted:
        await bank.execute(command, idempotency_key="key")
    assert interrupted.value.outcome_unknown


async def test_25_an_interruption_of_the_wait_after_a_doubt_says_so(bank, monkeypatch):
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    bank.store.failing = 1
    command = Deposit(account=A, amount=Money(3))
    for port in (LoopPort, ThreadPort):
        monkeypatch.setattr(port, "sleep", interrupt)
    with pytest.raises(KeyboardInterrupt) as interrupted:
        await bank.execute(command, idempotency_key="key")
    assert interrupted.value.outcome_unknown


async def test_25_a_cancellation_of_the_wait_after_a_doubt_says_so(anyio_backend):
    hour = timedelta(hours=1)
    slow = eb.RetryPolicy(initial_delay=hour, maximum_delay=hour, jitter="none")
    cancelled: list[BaseException] = []

    async def execute() -> None:
        try:
            await executor.execute(
                Deposit(account=A, amount=Money(3)), idempotency_key="key"
            )
        except BaseException as error:
            cancelled.append(error)
            raise

    async with eb.open_async("memory:") as inner:
        store = AsyncMeddled(inner)
        store.failing = 1
        executor = eb.AsyncExecutor(store, retry=slow, retry_timeout=2 * hour)
        with anyio.move_on_after(0.05):
            await execute()
    assert cancelled[0].outcome_unknown


async def test_25_what_was_not_done_after_all_is_done(bank):
    bank.store.failing = 2
    done = await bank.execute(
        Deposit(account=A, amount=Money(3)), idempotency_key="key"
    )
    assert (done.replayed, done.attempts) == (False, 3)
    assert len(await bank.events(A)) == 1


async def test_25_without_a_key_an_unknown_outcome_is_said_at_once(bank):
    bank.store.losing = 1
    with pytest.raises(eb.OutcomeUnknown):
        await bank.execute(Deposit(account=A, amount=Money(3)))
    assert bank.store.asked == ["read_streams", "append"]


async def test_25_a_doubt_is_never_answered_with_a_refusal(bank):
    """`RetriesExhausted` would say that nothing was written."""
    bank.store.failing = 9
    with pytest.raises(eb.OutcomeUnknown):
        await bank.execute(
            Deposit(account=A, amount=Money(3)), idempotency_key="key", retry=ONCE
        )


async def test_25_a_rejection_after_a_doubt_is_still_a_doubt(bank):
    await bank.given((A, Deposited(Money(100))))
    bank.store.failing = 1
    bank.store.before.append([raw(A, Withdrawn(Money(100)))])
    with pytest.raises(eb.OutcomeUnknown) as unknown:
        await bank.execute(TRANSFER, idempotency_key="key")
    assert isinstance(unknown.value.__cause__, eb.CommandRejected)


async def test_25_a_rejection_is_not_recorded_but_decided_anew(bank):
    with pytest.raises(eb.CommandRejected):
        await bank.execute(TRANSFER, idempotency_key="key")
    await bank.given((A, Deposited(Money(500))))
    assert not (await bank.execute(TRANSFER, idempotency_key="key")).replayed


async def test_25_a_replay_needs_no_streams_to_be_as_they_were(bank):
    class Idle(Deposit):
        def decide(self, state, /):
            return ()

    idle = Idle(account=A, amount=Money(1))
    first = await bank.execute(idle, idempotency_key="idle")
    again = await bank.execute(idle, idempotency_key="idle")
    assert (first.events, first.replayed) == ((), False)
    assert (again.events, again.replayed, again.last_position) == ((), True, None)
    assert (first.read_position, again.read_position) == (0, None)


async def test_25_fields_that_cannot_be_compared_cannot_have_a_key(bank):
    class Odd(Deposit):
        how: Any = None

    odd = Odd(account=A, amount=Money(1), how=object())
    with pytest.raises(eb.errors.InvalidArgument, match="Odd"):
        await bank.execute(odd, idempotency_key="key")
    assert (await bank.execute(odd)).attempts == 1


# --- 26: nothing decided -------------------------------------------------------------


class Look(Deposit):
    def decide(self, state, /):
        return ()


async def test_26_a_command_without_events_succeeds(bank):
    await bank.given((A, Deposited(Money(1))))
    done = await bank.execute(Look(account=A, amount=Money(1)))
    assert (done.events, dict(done.versions), done.read_position) == ((), {}, 1)
    assert (done.first_position, done.last_position) == (None, None)
    assert await bank.head() == 1


async def test_26_its_reads_are_checked(bank):
    bank.store.before.append([raw(A, Deposited(Money(1)))])
    with pytest.raises(eb.errors.RetriesExhausted):
        await bank.execute(Look(account=A, amount=Money(1)), retry=ONCE)


async def test_26_without_streams_there_is_nothing_to_check(bank):
    class Nothing(eb.StatefulCommand[None, Deposited]):
        def initial(self): ...
        def apply(self, state, recorded, /): ...
        def decide(self, state, /):
            return ()

    done = await bank.execute(Nothing())
    assert (done.events, done.attempts) == ((), 1)


# --- 27: further writes and expectations ---------------------------------------------


class DepositWithState(eb.Command):
    """Takes the fast path, as long as it has no conflict with its own streams."""

    account: eb.Declared[Account]
    amount: Money

    def decide(self):
        yield self.account.write(Deposited(self.amount))


either_form = pytest.mark.parametrize("deposit", [Deposit, DepositWithState])


@either_form
async def test_27_further_writes_are_committed_together(bank, deposit):
    done = await bank.execute(
        deposit(account=A, amount=Money(1)),
        also=[eb.Write(GROUP, Joined(A), {"by": "saga"})],
        expect={GROUP: eb.NO_STREAM},
    )
    assert done.events == (Deposited(Money(1)), Joined(A))
    assert dict(done.versions) == {A: 1, GROUP: 1}
    [joined] = await bank.recorded(GROUP)
    assert dict(joined.metadata) == {"by": "saga"}


@either_form
async def test_27_a_conflict_in_an_expectation_is_raised_at_once(bank, deposit):
    await bank.given((GROUP, Joined(A)))
    with pytest.raises(eb.VersionConflict) as conflict:
        await bank.execute(
            deposit(account=A, amount=Money(1)),
            also=[eb.Write(GROUP, Joined(A))],
            expect={GROUP: 0},
        )
    assert conflict.value.failures == (eb.errors.ConflictedStream(GROUP, 0, 1),)
    assert bank.store.asked == ["read_streams", "append"]
    assert await bank.head() == 1


@either_form
async def test_27_a_conflict_in_the_commands_own_streams_is_tried_again(bank, deposit):
    bank.store.before.append([raw(A, Deposited(Money(1)))])
    done = await bank.execute(
        deposit(account=A, amount=Money(1)),
        also=[eb.Write(GROUP, Joined(A))],
        expect={GROUP: 0},
    )
    assert done.attempts == 2
    assert await bank.events(GROUP) == [Joined(A)]


@either_form
async def test_27_a_conflict_in_both_is_raised_at_once_and_names_both(bank, deposit):
    bank.store.before.append([raw(A, Deposited(Money(1))), raw(GROUP, Joined(A))])
    with pytest.raises(eb.VersionConflict) as conflict:
        await bank.execute(deposit(account=A, amount=Money(1)), expect={GROUP: 0})
    assert {failure.stream for failure in conflict.value.failures} == {A, GROUP}


@pytest.mark.parametrize("expected", [0, 2, eb.NO_STREAM])
@either_form
async def test_27_an_expectation_on_an_own_stream_is_judged_too(
    bank, deposit, expected
):
    await bank.given((A, Deposited(Money(1))))
    with pytest.raises(eb.VersionConflict) as conflict:
        await bank.execute(deposit(account=A, amount=Money(1)), expect={A: expected})
    assert conflict.value.failures == (eb.errors.ConflictedStream(A, expected, 1),)


@pytest.mark.parametrize("expected", [eb.ANY, eb.EXISTS])
@either_form
async def test_27_an_expectation_that_still_holds_is_no_reason_to_give_up(
    bank, deposit, expected
):
    await bank.given((A, Deposited(Money(1))))
    bank.store.before.append([raw(A, Deposited(Money(1)))])
    done = await bank.execute(deposit(account=A, amount=Money(1)), expect={A: expected})
    assert done.attempts == 2


@either_form
async def test_27_an_expectation_that_no_longer_holds_is_raised_at_once(bank, deposit):
    bank.store.before.append([raw(A, Deposited(Money(1)))])
    with pytest.raises(eb.VersionConflict):
        await bank.execute(deposit(account=A, amount=Money(1)), expect={A: 0})


@either_form
async def test_27_a_further_write_may_go_to_an_own_stream(bank, deposit):
    done = await bank.execute(
        deposit(account=A, amount=Money(1)), also=[eb.Write(A, Withdrawn(Money(1)))]
    )
    assert dict(done.versions) == {A: 2}
    assert await bank.events(A) == [Deposited(Money(1)), Withdrawn(Money(1))]


async def test_27_a_further_write_of_an_unregistered_event_writes_nothing(bank):
    with pytest.raises(eb.errors.InvalidArgument, match="object"):
        await bank.execute(
            Deposit(account=A, amount=Money(1)), also=[eb.Write(GROUP, object())]
        )
    assert await bank.head() == 0


async def test_27_what_is_no_write_is_refused_before_anything_is_read(bank):
    with pytest.raises(eb.errors.InvalidArgument, match="further write"):
        await bank.execute(Deposit(account=A, amount=Money(1)), also=[Joined(A)])
    assert bank.store.asked == []


async def test_27_a_replay_answers_the_further_events_too(bank):
    deposit = Deposit(account=A, amount=Money(1))
    also = [eb.Write(GROUP, Joined(A))]
    first = await bank.execute(deposit, idempotency_key="key", also=also)
    again = await bank.execute(
        deposit, idempotency_key="key", also=also, expect={GROUP: 0}
    )
    assert again == dataclasses.replace(first, replayed=True)


# --- events that don't fit -----------------------------------------------------------


async def test_an_unknown_event_in_a_stream_stops_the_command(bank):
    await settled(bank.store.inner.append([(A, "test.unheard.of", b"{}")]))
    with pytest.raises(eb.errors.UnknownEventType) as unknown:
        await bank.execute(Deposit(account=A, amount=Money(1)))
    assert (unknown.value.type, unknown.value.stream) == ("test.unheard.of", A)


async def test_an_event_that_does_not_decode_stops_the_command(bank):
    await settled(bank.store.inner.append([(A, "test.account.deposited", b"{}")]))
    with pytest.raises(eb.errors.EventDecodeError, match="amount"):
        await bank.execute(Deposit(account=A, amount=Money(1)))


async def test_an_event_that_the_command_does_not_apply_stops_it(bank):
    await bank.given((A, Joined("x")))
    with pytest.raises(
        eb.errors.EventDecodeError, match="Deposit reads the stream but"
    ):
        await bank.execute(Deposit(account=A, amount=Money(1)))
