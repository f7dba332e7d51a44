"""States that commands share while they wait for the same stream.

Each command of a queue would fold all that the commands before it wrote: n commands
fold n * n / 2 events. Where the fold can't depend on the command's fields, the next
command continues from the state of the one before. The states live as long as the
queue, so nothing is kept once the contention is over.
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

    from eventbraid.command._command import Command

STATES_LIMIT = 16
"""How many states one queue keeps: for so many classes and sets of streams."""

_OPAQUE = frozenset({"eval", "exec", "locals", "super", "vars"})
"""Built-in functions that reach a local variable without naming it."""


@dataclass(frozen=True, slots=True)
class SharedState:
    """An immutable state, and the versions of the streams that it was folded from."""

    versions: Mapping[str, int]
    state: Any


SharedStates: TypeAlias = dict[tuple[type, frozenset[str]], SharedState]


def share(
    states: SharedStates, key: tuple[type, frozenset[str]], shared: SharedState
) -> None:
    """Offer a state to the commands that come next."""
    if key not in states and len(states) >= STATES_LIMIT:
        states.clear()
    states[key] = shared


@functools.cache
def folds_without_fields(kind: type[Command[Any, Any]]) -> bool:
    """Return whether the states of two commands of a class are folded alike.

    They are if neither `initial` nor `apply` reads the command. This is read off their
    code; what can't be read, a function in C for instance, counts as dependent.
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
    # An inner function's variable, or `super()` without arguments.
    if first in code.co_cellvars or "__class__" in code.co_freevars:
        return False
    return not any(
        first == used or (isinstance(used, tuple) and first in used)
        for used in (instruction.argval for instruction in dis.get_instructions(code))
    )
