"""The states that commands in the queue of a stream share.

Without shared states, each command of a queue would fold all events that the previous
commands wrote: n commands would fold n * n / 2 events. If the fold can't depend on the
command's fields, a command continues from the state of the previous command. The states
belong to the queue, so they are dropped when the contention is over.
"""

from __future__ import annotations

import dis
import functools
import inspect
from dataclasses import dataclass
from types import FunctionType
from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Mapping

    from eventbraid.command._stateful_command import StatefulCommand
    from eventbraid.event import EventDecoder

STATES_LIMIT = 16
"""The maximum number of states of a queue, one per class and set of streams."""

_OPAQUE = frozenset({"eval", "exec", "locals", "super", "vars"})
"""Built-in functions that can access a local variable without its name."""


@dataclass(frozen=True, slots=True)
class SharedState:
    """An immutable state, and the versions of the streams that it was folded from."""

    versions: Mapping[str, int]
    state: Any


StateKey: TypeAlias = "tuple[type, frozenset[str], EventDecoder]"
"""The command's class, its streams, and the decoder of their events: two executors with
different registries or policies may fold the same records to different states."""

SharedStates: TypeAlias = "dict[StateKey, SharedState]"


def share(states: SharedStates, key: StateKey, shared: SharedState) -> None:
    """Store a state for the next commands of the queue."""
    if key not in states and len(states) >= STATES_LIMIT:
        states.clear()
    states[key] = shared


@functools.cache
def folds_without_fields(kind: type[StatefulCommand[Any, Any]]) -> bool:
    """Return whether the fold of a command class doesn't depend on the fields.

    This is so if neither `initial` nor `apply` uses ``self``, which is read from their
    bytecode. A function without bytecode, for example in C, counts as dependent.
    """
    return all(
        _ignores_first_argument(inspect.getattr_static(kind, name))
        for name in ("initial", "apply")
    )


def _ignores_first_argument(function: object) -> bool:
    if not isinstance(function, FunctionType):
        return False
    code = function.__code__
    if not code.co_argcount or not _OPAQUE.isdisjoint(code.co_names):
        return False
    first = code.co_varnames[0]
    # An inner function uses the first argument, or `super()` is called.
    if first in code.co_cellvars or "__class__" in code.co_freevars:
        return False
    return not any(
        first == used or (isinstance(used, tuple) and first in used)
        for used in (instruction.argval for instruction in dis.get_instructions(code))
    )
