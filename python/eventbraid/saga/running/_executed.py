"""The result of a local step's command, after its execution or after a restart.

The result has only facts that are in the log. So its fold gives the same state,
whether the command has just been executed or its events are read back from the log.
"""

from __future__ import annotations

from itertools import takewhile
from typing import TYPE_CHECKING

from eventbraid.command import Executed
from eventbraid.event import EventDecoder
from eventbraid.event._frozen import is_frozen_class

if TYPE_CHECKING:
    from collections.abc import Mapping

    from eventbraid.event import EventRegistry
    from eventbraid.store import AsyncStore, RecordedEvent

_PAGE = 32


def own_part(executed: Executed, saga_id: str, registry: EventRegistry) -> Executed:
    """Return the part of a commit that the command wrote, without the step's record.

    Args:
        executed: The whole commit; its last event is the record of the step.
        saga_id: The saga's stream.
        registry: The registry of the command's events.
    """
    events = tuple(_as_recorded(event, registry) for event in executed.events[:-1])
    first, last = executed.first_position or 1, executed.last_position or 1
    versions = {
        stream: version
        for stream, version in executed.versions.items()
        if stream != saga_id
    }
    return _executed(events, versions, first, last)


async def recall(
    store: AsyncStore, record_position: int, cause: str, registry: EventRegistry
) -> Executed:
    """Read the result of a local step's command from the log.

    In the log, the command's events are directly before the record of the step. Their
    causation id is the idempotency key of the step.

    Args:
        store: The store.
        record_position: The position of the step's record.
        cause: The step's idempotency key.
        registry: The registry of the command's events.
    """
    found: list[RecordedEvent] = []
    whole = True
    while whole:
        before = found[-1].position if found else record_position
        log = store.read_all(before=before, backward=True, limit=_PAGE, system=True)
        page = [recorded async for recorded in log]
        own = list(takewhile(lambda recorded: recorded.causation_id == cause, page))
        found += own
        whole = len(own) == _PAGE
    found.reverse()
    events = EventDecoder(registry=registry).events(found)
    versions = {recorded.stream: recorded.version for recorded in found}
    first = found[0].position if found else record_position
    return _executed(events, versions, first, record_position)


def _as_recorded(event: object, registry: EventRegistry) -> object:
    """Return an event as a later read of the log would return it."""
    kind: type = type(event)
    if is_frozen_class(kind):
        return event
    codec = registry.of_class(kind).codec
    return codec.decode(codec.encode(event))


def _executed(
    events: tuple[object, ...],
    versions: Mapping[str, int],
    first_position: int,
    record_position: int,
) -> Executed:
    # The number of positions is that of the records, which isn't always the number of
    # typed events: upcasters may split a record into several events, or drop it.
    has_records = first_position < record_position
    return Executed(
        events=events,
        versions=versions,
        first_position=first_position if has_records else None,
        last_position=record_position - 1 if has_records else None,
        read_position=None,
        attempts=1,
        replayed=False,
    )
