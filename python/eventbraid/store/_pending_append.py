"""Appends that build on appends whose outcome isn't known yet.

An executor lets the next command decide on the state after a command whose append isn't
durable yet. The versions alone would not protect the second append: if the first is
refused, and another writer appends as many events in its place, the stream has the
expected version, but other events. So the second append names the first one, and the
engine refuses it unless the first one was accepted. No result is reported before
everything that it depends on is durable.

The link is passed in a context variable, as a reservation is, so that `append` has no
parameter that only executors use. Only the stores of the engine read it. The variable
also has the list of events that the linked append writes, and no other append uses the
link: Ctrl-C may end a function between the change of the variable and its reset, and
every further append of the thread would be refused with those before the old link.
"""

from __future__ import annotations

from contextvars import ContextVar
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from eventbraid._native import PendingAppend

UsedAppend: TypeAlias = "tuple[object, PendingAppend]"
"""The list of events of an append, which identifies it, and its link."""

_used: ContextVar[UsedAppend | None] = ContextVar("_used", default=None)

used_pending_append = _used.get
"""Return the link of the next linked append of the current task or thread, if any."""


append_as = _used.set
"""Let the next append of the current task or thread be a pending append.

The caller makes one append, and then calls `reset_append` with the result."""

reset_append = _used.reset
"""End what `append_as` has begun."""
