"""Commands: requests that fold streams into a state and decide on new events."""

from __future__ import annotations

from eventbraid.command._any_command import AnyCommand
from eventbraid.command._async_executor import AsyncExecutor
from eventbraid.command._command import Command
from eventbraid.command._declared import Declared, DeclaredMany
from eventbraid.command._executed import Executed
from eventbraid.command._executor import Executor
from eventbraid.command._hooks import (
    AttemptEnd,
    AttemptStart,
    ExecutionEnd,
    ExecutionHooks,
    ExecutionStart,
)
from eventbraid.command._metadata import caused_by
from eventbraid.command._require import require
from eventbraid.command._retry_policy import RetryPolicy
from eventbraid.command._stateful_command import StatefulCommand
from eventbraid.command._stream import Stream
from eventbraid.command._stream_loading import StreamState
from eventbraid.command._write import Writable, Writables, Write

__all__ = [
    "AnyCommand",
    "AsyncExecutor",
    "AttemptEnd",
    "AttemptStart",
    "Command",
    "Declared",
    "DeclaredMany",
    "Executed",
    "ExecutionEnd",
    "ExecutionHooks",
    "ExecutionStart",
    "Executor",
    "RetryPolicy",
    "StatefulCommand",
    "Stream",
    "StreamState",
    "Writable",
    "Writables",
    "Write",
    "caused_by",
    "require",
]
