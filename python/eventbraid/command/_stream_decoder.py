"""Decodes recorded events as the events of one kind of stream."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from eventbraid._recorded import Parts, Recorded
from eventbraid._undecoded import UndecodedEvent
from eventbraid.command._typing import is_covered
from eventbraid.domain._annotation import is_defined_again
from eventbraid.errors import EventDecodeError
from eventbraid.event import EventDecoder

if TYPE_CHECKING:
    from eventbraid._native import RecordedEvent
    from eventbraid._undecoded import OnUndecodable
    from eventbraid.command._typing import EventKinds
    from eventbraid.event import EventRegistry


class KindDecoder(EventDecoder):
    """Decodes the events of the streams of one kind.

    An event of another class than the kind's is undecodable here, because a type
    checker takes the result for one of the kind's events: the policy applies to it.

    Args:
        kind: The name of the kind.
        kinds: The classes of its events; None if they are unknown.
        registry: The registry of the classes and upcasters.
        on_undecodable: The policy for undecodable events.

    Raises:
        InvalidArgument: The policy is invalid.
    """

    __slots__ = ("_kind", "_kinds")

    def __init__(
        self,
        kind: str,
        kinds: EventKinds,
        *,
        registry: EventRegistry,
        on_undecodable: OnUndecodable,
    ) -> None:
        """Validate the policy."""
        super().__init__(registry=registry, on_undecodable=on_undecodable)
        self._kind = kind
        self._kinds = kinds

    def pair(self, recorded: RecordedEvent) -> Recorded[Any]:
        """Return one entry for a recorded event; apply the policy to a foreign one."""
        one = super().pair(recorded)
        kinds = self._kinds
        # The first test alone suffices for nearly every event.
        if kinds is None or type(one.event) in kinds:
            return one
        decoded: object = one.event
        events = decoded if isinstance(decoded, Parts) else (decoded,)
        for event in events:
            found = type(event)
            # The policy has been applied to an event that is an `UndecodedEvent`.
            if found is not UndecodedEvent and not is_covered(found, kinds):
                return self.refused(recorded, self._foreign_event(recorded, found))
        return one

    def _foreign_event(self, recorded: RecordedEvent, found: type) -> EventDecodeError:
        kind = self._kind
        reason = (
            f"{found.__name__} is not one of the events of {kind}; add it to "
            "the first type argument of its Stream"
        )
        if any(is_defined_again(one, found) for one in self._kinds or ()):
            reason = (
                f"the class {found.__name__} was defined again after {kind}; "
                f"define {kind} again, too"
            )
        return EventDecodeError(
            recorded.type, recorded.stream, recorded.position, reason
        )

    def __eq__(self, other: object, /) -> bool:
        """Return whether it is the same decoder: an `EventDecoder` decodes more."""
        return self is other

    def __hash__(self) -> int:
        return object.__hash__(self)
