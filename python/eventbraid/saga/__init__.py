"""Sagas: recorded sequences of steps, each with its compensation."""

from __future__ import annotations

from eventbraid.saga._context import Done, StepContext, StepFailure, Unknown
from eventbraid.saga._coordinator import SagaCoordinator
from eventbraid.saga._defect import DEFECTS
from eventbraid.saga._definition import CompensationOrder, Saga
from eventbraid.saga._handle import Ended, Outcome, SagaHandle
from eventbraid.saga._journal import SagaProgress
from eventbraid.saga._node import Kind, Node
from eventbraid.saga._progress import Status
from eventbraid.saga._retry import Retry
from eventbraid.saga._roster import SagaSummary
from eventbraid.saga._step import Local, Step, local, step
from eventbraid.saga._timeline import SagaEntry, SagaTimeline, read_timeline

__all__ = [
    "DEFECTS",
    "CompensationOrder",
    "Done",
    "Ended",
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
