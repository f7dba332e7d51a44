"""The state of a stream: at a version, and after events that a command decided on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    from eventbraid.command._stream import Stream

Kind: TypeAlias = "type[Stream[Any, Any]]"
"""A kind of streams."""

CachedState: TypeAlias = tuple[int, Any, bool, int, int]
"""A version of a stream; the state at this version; whether the state is immutable, so
that it is shared; the estimated size of the entry; and the size that was measured."""

States: TypeAlias = "dict[Kind, dict[str, CachedState]]"
"""The states of streams, by their kinds and ids."""

Members: TypeAlias = "dict[Kind, tuple[str, ...]]"
"""The streams of the kinds that a command has discovered as a whole."""

FoldedState: TypeAlias = "tuple[Kind, str, CachedState, int, Any, int]"
"""A kind; the id of a stream; the entry before a command's events; their number; the
state after them, or `NO_STATE`; and the bytes by which they may enlarge the state."""

NO_STATE: Any = object()
"""In place of a state that can't be determined, because `apply` doesn't return it."""
