"""The result of an execution."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True, slots=True)
class Executed:
    """The result of an executed command.

    To see the command's events in a read model, wait until the read model has reached
    `last_position`.

    Attributes:
        events: The events of its commit, in order: the events that it decided on, then
            those of ``also=``. If the result is replayed, they are decoded from the
            log. Upcasters may then make more or fewer events of them.
        versions: The new version of each stream that was written.
        first_position: The position of its first event; `None` without events.
        last_position: The position of its last event; `None` without events.
        read_position: The position of the log at which the streams were read; `None` if
            the result is replayed, so that no stream was read. This attribute isn't
            compared.
        attempts: The number of attempts.
        replayed: Whether the command was executed before with the same idempotency key.
            If so, this is the first result again.

    Example:
        >>> import eventbraid as eb
        >>> @eb.event("doc.light.switched")
        ... class Switched: ...
        >>> class Light(eb.Stream[Switched], category="light"): ...
        >>> class Switch(eb.StatefulCommand[None, Switched]):
        ...     light: eb.Declared[Light]
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
        >>> once.read_position, once.last_position, again.last_position
        (0, 1, 1)
    """

    events: tuple[object, ...]
    versions: Mapping[str, int]
    first_position: int | None
    last_position: int | None
    read_position: int | None = field(compare=False)
    attempts: int
    replayed: bool

    def __reduce__(self) -> tuple[type[Executed], tuple[object, ...]]:
        """Copy ``versions`` into a dict, because a read-only view can't be pickled."""
        values = {one.name: getattr(self, one.name) for one in fields(self)}
        return type(self), tuple({**values, "versions": dict(self.versions)}.values())
