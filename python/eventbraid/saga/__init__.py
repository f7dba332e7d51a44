"""Sagas: recorded sequences of steps that can be compensated."""

from __future__ import annotations

from eventbraid.saga._timeline import SagaEntry, SagaTimeline, read_timeline
from eventbraid.saga.coordination._coordinator import SagaCoordinator
from eventbraid.saga.coordination._handle import SagaHandle
from eventbraid.saga.coordination._saga_summary import SagaSummary
from eventbraid.saga.definition._context import (
    StepCompleted,
    StepContext,
    StepFailure,
    StepInDoubt,
)
from eventbraid.saga.definition._default_defects import DEFECTS
from eventbraid.saga.definition._each import Each, ItemState, each
from eventbraid.saga.definition._group import (
    Choice,
    ParallelGroup,
    SagaNode,
    StepSequence,
    parallel,
    sequence,
    when,
)
from eventbraid.saga.definition._saga import CompensationOrder, Saga
from eventbraid.saga.definition._step import LocalStep, Step
from eventbraid.saga.definition._step_base import SagaStep, StepKind
from eventbraid.saga.definition._step_builders import local_step, step
from eventbraid.saga.definition._wait import Signal, SignalCase, WaitStep, sleep, wait
from eventbraid.saga.machine._progress import SagaStatus
from eventbraid.saga.running._observer import SagaProgress
from eventbraid.saga.running._outcome import SagaOutcome, SagaResult

__all__ = [
    "DEFECTS",
    "Choice",
    "CompensationOrder",
    "Each",
    "ItemState",
    "LocalStep",
    "ParallelGroup",
    "Saga",
    "SagaCoordinator",
    "SagaEntry",
    "SagaHandle",
    "SagaNode",
    "SagaOutcome",
    "SagaProgress",
    "SagaResult",
    "SagaStatus",
    "SagaStep",
    "SagaSummary",
    "SagaTimeline",
    "Signal",
    "SignalCase",
    "Step",
    "StepCompleted",
    "StepContext",
    "StepFailure",
    "StepInDoubt",
    "StepKind",
    "StepSequence",
    "WaitStep",
    "each",
    "local_step",
    "parallel",
    "read_timeline",
    "sequence",
    "sleep",
    "step",
    "wait",
    "when",
]
