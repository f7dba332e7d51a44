"""Whether a ``__post_init__`` only looks at the fields of an instance."""

from __future__ import annotations

import dis
import types
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection

_LOADS = {"LOAD_FAST", "LOAD_FAST_BORROW"}
_MEANINGLESS = {"CACHE", "NOP", "EXTENDED_ARG"}


def only_reads(function: object, fields: Collection[str]) -> bool:
    """Return whether it is certain that a method assigns nothing to its instance.

    That is certain if the instance is used for nothing but reading fields: it is never
    passed on, stored, or used for a method. Most validation is written like that, and
    then nothing has to be compared after it ran.

    Example:
        >>> def check(self):
        ...     if self.first > self.last:
        ...         raise ValueError("backwards")
        >>> only_reads(check, {"first", "last"})
        True
        >>> def change(self):
        ...     object.__setattr__(self, "first", 0)
        >>> only_reads(change, {"first", "last"})
        False
    """
    if not isinstance(function, types.FunctionType):
        return False
    code = function.__code__
    if not code.co_argcount or code.co_cellvars or code.co_flags & _NOT_PLAIN:
        return False
    instance = code.co_varnames[0]
    steps = [s for s in dis.get_instructions(code) if s.opname not in _MEANINGLESS]
    for step, following in zip(steps, [*steps[1:], None], strict=True):
        touched: object = step.argval
        if touched != instance and not _includes(touched, instance):
            continue
        if step.opname not in _LOADS:
            return False
        if following is None or following.opname != "LOAD_ATTR":
            return False
        if following.argval not in fields:
            return False
    return True


_NOT_PLAIN = 0x20 | 0x80 | 0x200  # A generator or a coroutine.


def _includes(touched: object, instance: str) -> bool:
    return isinstance(touched, tuple) and instance in touched
