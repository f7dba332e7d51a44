"""Sagas: recorded sequences of steps that can be compensated."""

from __future__ import annotations

from eventbraid.saga._timeline import SagaEntry, SagaTimeline, read_timeline
from eventbraid.saga.coordination._coordinator import SagaCoordinator
from eventbraid.saga.coordination._handle import SagaHandle
from eventbraid.saga.coordination._saga_summary import SagaSummary
from eventbraid.saga.definition._context import Done, StepContext, StepFailure, Unknown
from eventbraid.saga.definition._defect_classes import DEFECTS
from eventbraid.saga.definition._retry import Retry
from eventbraid.saga.definition._saga import CompensationOrder, Saga
from eventbraid.saga.definition._step import Local, Step
from eventbraid.saga.definition._step_base import Kind, Node
from eventbraid.saga.definition._step_builders import local, step
from eventbraid.saga.machine._progress import Status
from eventbraid.saga.running._observer import SagaProgress
from eventbraid.saga.running._outcome import Outcome, SagaResult

__all__ = [
    "DEFECTS",
    "CompensationOrder",
    "Done",
    "Kind",
    "Local",
    "Node",
    "Outcome",
    "Retry",
    "Saga",
    "SagaCoordinator",
    "SagaEntry",
    "SagaHandle",
    "SagaProgress",
    "SagaResult",
    "SagaSummary",
    "SagaTimeline",
    "Status",
    "Step",
    "StepContext",
    "StepFailure",
    "Unknown",
    "local",
    "read_timeline",
    "step",
]
