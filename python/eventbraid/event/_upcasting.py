"""Upcasters: functions from the JSON of an old event to that of newer ones.

An upcaster leads from one version of an event type to the next, or to other types. An
event of an old version passes through upcasters until each of the resulting events has
a version that a class reads. Then it is encoded once more and decoded by the class, so
a class reads an upcast event exactly as it reads a recorded one.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from eventbraid.domain._invalid_value import shown

if TYPE_CHECKING:
    from collections.abc import Callable

    from eventbraid.store import RecordedEvent

SPLIT_LIMIT = 1_000
"""The maximum number of events that one recorded event may become."""


@dataclass(frozen=True, slots=True)
class UpcastEvent:
    """An event that an upcaster makes of an older one.

    Attributes:
        type: The event type.
        body: The JSON of the event.
        version: The version of the event type's schema.

    Example:
        >>> from eventbraid.event import UpcastEvent
        >>> UpcastEvent("account.deposited", {"amount": 5}).version
        1
    """

    type: str
    body: dict[str, Any]
    version: int = 1


class UpcastError(ValueError):
    """An upcaster raised an error, or returned something that isn't an event."""


@dataclass(frozen=True, slots=True)
class Upcaster:
    """A registered upcaster.

    Attributes:
        source: The event type and the version that it reads.
        targets: The event types and versions that it may lead to.
        function: The function of the application.
        name: The function's full name, for errors.
        returns_body: Whether the function returns the body of its only target, instead
            of an iterable of `UpcastEvent`.
        takes_record: Whether the function also gets the recorded event.
    """

    source: tuple[str, int]
    targets: tuple[tuple[str, int], ...]
    function: Callable[..., Any]
    name: str
    returns_body: bool
    takes_record: bool

    def is_redefinition_of(self, other: Upcaster) -> bool:
        """Return whether a module or a notebook's cell was run again."""
        return self.function is other.function or (
            self.name == other.name and "<locals>" not in self.name
        )

    def upcast(self, body: object, recorded: RecordedEvent) -> list[UpcastEvent]:
        """Return the events that replace one of the source's version.

        Raises:
            UpcastError: The function raised an error, or returned something else.
        """
        try:
            made = (
                self.function(body, recorded)
                if self.takes_record
                else self.function(body)
            )
            if self.returns_body:
                [(name, version)] = self.targets
                return [UpcastEvent(name, self._checked_body(made), version)]
            return self._checked_events(made)
        except UpcastError:
            raise
        except Exception as error:
            # An application's function may raise anything.
            raise UpcastError(
                f"{self._described} raised {type(error).__name__}: {error}"
            ) from error

    def _checked_body(self, made: object) -> dict[str, Any]:
        # An array is the body of a class that is written as one.
        if isinstance(made, dict | list):
            return cast("dict[str, Any]", made)
        raise UpcastError(
            f"{self._described} returned {shown(made)}, expected a dict: the JSON of "
            f"version {self.targets[0][1]}"
        )

    def _checked_events(self, made: object) -> list[UpcastEvent]:
        if not _is_iterable(made):
            raise UpcastError(
                f"{self._described} returned {shown(made)}, expected an iterable of "
                "UpcastEvent; yield the events, or return () to drop the event"
            )
        events: list[UpcastEvent] = []
        for one in cast("Iterable[object]", made):
            if not isinstance(one, UpcastEvent):
                raise UpcastError(
                    f"{self._described} returned {shown(one)} among its events, "
                    "expected an UpcastEvent"
                )
            if (one.type, one.version) not in self.targets:
                raise UpcastError(
                    f"{self._described} returned {one.type!r} version {one.version}, "
                    "which it doesn't declare; add it to into="
                )
            self._checked_body(one.body)
            events.append(one)
            if len(events) > SPLIT_LIMIT:
                raise UpcastError(
                    f"{self._described} returned more than {SPLIT_LIMIT:,} events; "
                    "return events that have a list of the parts"
                )
        return events

    @property
    def _described(self) -> str:
        name, version = self.source
        return f"the upcaster {self.name} (from {name!r} version {version})"


def _is_iterable(made: object) -> bool:
    """Return whether an object may contain events; a dict is a body."""
    return isinstance(made, Iterable) and not isinstance(made, str | bytes | dict)
