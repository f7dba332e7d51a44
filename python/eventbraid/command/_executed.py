"""What an execution did."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True, slots=True)
class Executed:
    """What an executed command did.

    Attributes:
        events: The events of its commit, in order: what it decided, then what was
            given as ``also=``.
        versions: The new version of each stream that was written.
        position: The position of its last event. Without events: where it read; 0
            when it is replayed.
        first_position: The position of its first event, if it has any.
        attempts: How often it was tried, this time included.
        replayed: Whether it had been done before under its idempotency key, so that
            this is the first result again.

    Example:
        >>> import eventbraid as eb
        >>> @eb.event("doc.light.switched")
        ... class Switched: ...
        >>> class Light(eb.Stream[Switched], category="light"): ...
        >>> class Switch(eb.Command[None, Switched]):
        ...     light: eb.Declared[Switched] = eb.stream(Light)
        ...
        ...     def initial(self): ...
        ...     def apply(self, state, recorded, /): ...
        ...     def decide(self, state, /):
        ...         yield self.light.write(Switched())
        >>> with eb.open("memory:") as store:
        ...     executor = eb.Executor(store)
        ...     once = executor.execute(Switch(light="light-1"), idempotency_key="k")
        ...     again = executor.execute(Switch(light="light-1"), idempotency_key="k")
        >>> once.versions["light-1"], once.replayed, again.replayed
        (1, False, True)
        >>> once.position == again.position
        True
    """

    events: tuple[object, ...]
    versions: Mapping[str, int]
    position: int
    first_position: int | None
    attempts: int
    replayed: bool

    def __reduce__(self) -> tuple[type[Executed], tuple[object, ...]]:
        """Restore by the values: a read-only view of versions has no pickle."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return type(self), tuple({**values, "versions": dict(self.versions)}.values())
