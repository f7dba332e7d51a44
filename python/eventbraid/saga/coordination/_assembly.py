"""Builds the parts of a coordinator, and connects them.

The parts are in layers. A part uses only parts of its own layer and of the layers above
it::

    recorded facts        lease table, live coordinators, unfinished sagas
    this coordinator      shards, registries, starts in progress, wakeup
    work                  worker pool, loader, intake, attention, handover
    control               log follower, lifecycle
    requests of callers   starter, finder, listing, manual decisions

Each piece of mutable state is owned by exactly one of these parts.

Many parts are arguments of several constructors here. A constructor doesn't get all
parts as one object. Otherwise its signature wouldn't show which parts it uses, and a
part could use a layer below its own.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from eventbraid.saga.coordination._attention_exchange import AttentionExchange
from eventbraid.saga.coordination._attention_questions import AttentionQuestions
from eventbraid.saga.coordination._attention_reporter import AttentionReporter
from eventbraid.saga.coordination._blocked_registry import BlockedRegistry
from eventbraid.saga.coordination._definition_registry import DefinitionRegistry
from eventbraid.saga.coordination._lease_table import LeaseTable
from eventbraid.saga.coordination._lifecycle import Lifecycle
from eventbraid.saga.coordination._live_coordinators import LiveCoordinators
from eventbraid.saga.coordination._log_follower import LogFollower
from eventbraid.saga.coordination._log_reader import LogReader
from eventbraid.saga.coordination._manual_decisions import ManualDecisions
from eventbraid.saga.coordination._record_handlers import TYPES, RecordHandlers
from eventbraid.saga.coordination._saga_finder import SagaFinder
from eventbraid.saga.coordination._saga_intake import SagaIntake
from eventbraid.saga.coordination._saga_listing import SagaListing
from eventbraid.saga.coordination._saga_loader import SagaLoader
from eventbraid.saga.coordination._saga_registry import SagaRegistry
from eventbraid.saga.coordination._saga_starter import SagaStarter
from eventbraid.saga.coordination._shard_handover import ShardHandover
from eventbraid.saga.coordination._shard_rebalancer import ShardRebalancer
from eventbraid.saga.coordination._shards import Shards
from eventbraid.saga.coordination._starts import StartsInProgress
from eventbraid.saga.coordination._unfinished_sagas import UnfinishedSagas
from eventbraid.saga.coordination._wakeup import Wakeup
from eventbraid.saga.coordination._worker_pool import WorkerPool
from eventbraid.saga.running._clock import SagaClock

if TYPE_CHECKING:
    from collections.abc import Sequence

    from eventbraid.saga.definition._saga import Saga
    from eventbraid.saga.running._journal import Journal
    from eventbraid.store import AsyncStore


@dataclass(frozen=True, slots=True)
class StateParts:
    """The parts that own the state of a coordinator."""

    store: AsyncStore
    journal: Journal
    definitions: DefinitionRegistry
    live: LiveCoordinators
    table: LeaseTable
    shards: Shards
    unfinished: UnfinishedSagas
    wakeup: Wakeup
    blocked: BlockedRegistry
    registry: SagaRegistry
    questions: AttentionQuestions
    starts: StartsInProgress


@dataclass(frozen=True, slots=True)
class WorkParts:
    """The parts that act on that state."""

    workers: WorkerPool
    loader: SagaLoader
    intake: SagaIntake
    attention: AttentionExchange
    handover: ShardHandover


@dataclass(frozen=True, slots=True)
class CoordinatorParts:
    """The parts of one coordinator."""

    state: StateParts
    work: WorkParts
    follower: LogFollower
    lifecycle: Lifecycle
    starter: SagaStarter
    finder: SagaFinder
    listing: SagaListing
    decisions: ManualDecisions


def assemble(
    store: AsyncStore,
    sagas: Sequence[Saga[Any]],
    *,
    journal: Journal,
    concurrency: int,
    stale_after: float,
    ends_a_checkpoint: int,
) -> CoordinatorParts:
    """Build the parts of a coordinator.

    Args:
        store: The store.
        sagas: The declarations of this program.
        journal: Reads and writes the sagas' streams.
        concurrency: The maximum number of sagas that are worked on at a time.
        stale_after: The age of a heartbeat in seconds from which its session counts as
            stopped.
        ends_a_checkpoint: The number of ended sagas after which a checkpoint is
            written.

    Raises:
        InvalidArgument: Two sagas have the same name and version.
    """
    state = _state(store, sagas, journal, stale_after)
    work = _work(state, concurrency, ends_a_checkpoint)
    follower = _follower(state, work)
    finder = _finder(state, work)
    return CoordinatorParts(
        state=state,
        work=work,
        follower=follower,
        lifecycle=Lifecycle(
            unfinished=state.unfinished,
            loader=work.loader,
            handover=work.handover,
            follower=follower,
            intake=work.intake,
            workers=work.workers,
        ),
        starter=_starter(state, work, finder),
        finder=finder,
        listing=SagaListing(
            registry=state.registry,
            blocked=state.blocked,
            unfinished=state.unfinished,
            loader=work.loader,
            live=state.live,
            handover=work.handover,
        ),
        decisions=ManualDecisions(
            journal=journal, finder=finder, intake=work.intake, workers=work.workers
        ),
    )


def _state(
    store: AsyncStore,
    sagas: Sequence[Saga[Any]],
    journal: Journal,
    stale_after: float,
) -> StateParts:
    definitions = DefinitionRegistry(sagas)
    live = LiveCoordinators(store, stale_after, definitions.declarations())
    table = LeaseTable(store, live.own)
    wakeup = Wakeup()
    blocked = BlockedRegistry(wakeup)
    registry = SagaRegistry(blocked)
    return StateParts(
        store=store,
        journal=journal,
        definitions=definitions,
        live=live,
        table=table,
        shards=Shards(table, live),
        unfinished=UnfinishedSagas(store),
        wakeup=wakeup,
        blocked=blocked,
        registry=registry,
        questions=AttentionQuestions(registry, wakeup),
        starts=StartsInProgress(),
    )


def _work(state: StateParts, concurrency: int, ends_a_checkpoint: int) -> WorkParts:
    workers = WorkerPool(
        journal=state.journal,
        registry=state.registry,
        unfinished=state.unfinished,
        wakeup=state.wakeup,
        concurrency=concurrency,
        ends_a_checkpoint=ends_a_checkpoint,
    )
    loader = SagaLoader(
        journal=state.journal,
        definitions=state.definitions,
        registry=state.registry,
        unfinished=state.unfinished,
        shards=state.shards,
        live=state.live,
    )
    intake = SagaIntake(
        journal=state.journal,
        loader=loader,
        registry=state.registry,
        blocked=state.blocked,
        unfinished=state.unfinished,
        starts=state.starts,
        shards=state.shards,
        live=state.live,
        workers=workers,
        questions=state.questions,
        wakeup=state.wakeup,
    )
    attention = AttentionExchange(
        AttentionReporter(state.store, state.shards),
        state.questions,
        state.registry,
        state.blocked,
        intake,
    )
    handover = ShardHandover(state.store, state.table, state.shards, state.live)
    return WorkParts(workers, loader, intake, attention, handover)


def _follower(state: StateParts, work: WorkParts) -> LogFollower:
    handlers = RecordHandlers(
        unfinished=state.unfinished,
        registry=state.registry,
        blocked=state.blocked,
        shards=state.shards,
        live=state.live,
        intake=work.intake,
        attention=work.attention,
        workers=work.workers,
    )
    rebalancer = ShardRebalancer(
        handover=work.handover,
        shards=state.shards,
        live=state.live,
        unfinished=state.unfinished,
        registry=state.registry,
        blocked=state.blocked,
        intake=work.intake,
        wakeup=state.wakeup,
    )
    return LogFollower(
        reader=LogReader(state.store, TYPES),
        handlers=handlers,
        unfinished=state.unfinished,
        intake=work.intake,
        blocked=state.blocked,
        attention=work.attention,
        rebalancer=rebalancer,
        workers=work.workers,
        clock=SagaClock(state.journal.reader.clock),
        wakeup=state.wakeup,
    )


def _finder(state: StateParts, work: WorkParts) -> SagaFinder:
    return SagaFinder(
        registry=state.registry,
        blocked=state.blocked,
        starts=state.starts,
        loader=work.loader,
        intake=work.intake,
        questions=state.questions,
    )


def _starter(state: StateParts, work: WorkParts, finder: SagaFinder) -> SagaStarter:
    return SagaStarter(
        journal=state.journal,
        definitions=state.definitions,
        registry=state.registry,
        starts=state.starts,
        finder=finder,
        intake=work.intake,
        shards=state.shards,
        workers=work.workers,
        wakeup=state.wakeup,
    )
