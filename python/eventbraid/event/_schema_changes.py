"""Compares two schemas: can a program with the second read the events of the first?"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias, cast

from eventbraid.event._event_schema import UPCAST_INTO
from eventbraid.event._schema_types import TypeChange, TypeComparison

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from eventbraid.event._event_schema import EventSchema
    from eventbraid.event._json_schema import JsonSchema

_Event: TypeAlias = "dict[str, Any]"


@dataclass(frozen=True, slots=True)
class SchemaChange:
    """A difference between two schemas.

    Attributes:
        kind: The kind of change, such as ``"field_removed"``.
        event: The event type, under the name in the first schema.
        version: The schema version; None if the change concerns the whole type.
        field: The path of the field, such as ``"lines[].price"``; None if the change
            doesn't concern a field.
        message: What has changed, and the remedy if it is breaking.
        is_breaking: Whether events of the first schema can't be read any more, or lose
            a value.

    Example:
        >>> from eventbraid.event import SchemaChange
        >>> SchemaChange("event_added", "parcel.sent", None, None, "it is new").kind
        'event_added'
    """

    kind: str
    event: str
    version: int | None
    field: str | None
    message: str
    is_breaking: bool = True


def schema_changes(
    before: EventSchema, after: EventSchema, /
) -> tuple[SchemaChange, ...]:
    """Return the differences between two schemas, breaking ones first.

    A change is breaking if a program with the second schema can't read every event that
    a program with the first one wrote, or reads it without one of its fields: a type
    or a field was removed, a type was renamed without its former name, the type of a
    field has changed, a new field has no default, or a version has neither a class nor
    an upcaster.

    Args:
        before: The earlier schema, as `event_schema` returns it.
        after: The later schema.

    Example:
        >>> import eventbraid as eb
        >>> from eventbraid.event import EventRegistry, event_schema, schema_changes
        >>> before, after = EventRegistry(), EventRegistry()
        >>> @eb.event("parcel.sent", registry=before)
        ... class ParcelSent:
        ...     grams: int
        >>> @eb.event("parcel.sent", registry=after)
        ... class ParcelSentLater:
        ...     grams: int
        ...     country: str
        >>> [change] = schema_changes(
        ...     event_schema(registry=before), event_schema(registry=after)
        ... )
        >>> change.kind, change.field, change.is_breaking
        ('field_required', 'country', True)
    """
    found = [*_Comparison(before, after).changes()]
    found.sort(key=lambda one: (not one.is_breaking, one.event, one.version or 0))
    return tuple(found)


class _Comparison:
    def __init__(self, before: EventSchema, after: EventSchema) -> None:
        self._before: dict[str, _Event] = before["events"]
        self._after: dict[str, _Event] = after["events"]
        self._definitions = before["$defs"], after["$defs"]
        self._current = {
            former: name
            for name, event in self._after.items()
            for former in event.get("formerly", ())
        }

    def changes(self) -> Iterator[SchemaChange]:
        for name, event in self._before.items():
            yield from self._event_changes(name, event)
        for name, event in self._after.items():
            former = {name, *event.get("formerly", ())}
            if former.isdisjoint(self._known_names()):
                yield _change("event_added", name, None, "it is new", breaks=False)

    def _known_names(self) -> set[str]:
        former = (
            name for one in self._before.values() for name in one.get("formerly", ())
        )
        return {*self._before, *former}

    def _find(self, name: str) -> tuple[str, _Event] | None:
        current = name if name in self._after else self._current.get(name, "")
        return (current, self._after[current]) if current else None

    def _event_changes(self, name: str, event: _Event) -> Iterator[SchemaChange]:
        found = self._find(name)
        if found is None:
            yield self._removal(name, event)
            return
        current, after = found
        if current != name:
            message = f"it is {current!r} now, and its events are read under both names"
            yield _change("event_renamed", name, None, message, breaks=False)
        for former in event.get("formerly", ()):
            if self._find(former) is None:
                yield _change(
                    "former_name_removed",
                    former,
                    None,
                    f"it was a former name of {name!r}, and its events can't be read "
                    f"any more; add it to formerly= of {current!r}",
                )
        yield from self._version_changes(name, current, event, after)

    def _removal(self, name: str, event: _Event) -> SchemaChange:
        for other, candidate in self._after.items():
            is_new = other not in self._before
            if is_new and _newest(candidate) == _newest(event) != {}:
                return _change(
                    "event_renamed",
                    name,
                    None,
                    f"it is gone, and {other!r} has the same fields; if it was "
                    f"renamed, add formerly={name!r} to {other!r}",
                )
        return _change(
            "event_removed",
            name,
            None,
            "it is gone, so its events can't be read any more; keep its class, or drop "
            f"its events: @upcaster({name!r}, from_version=..., into=())",
        )

    def _version_changes(
        self, name: str, current: str, before: _Event, after: _Event
    ) -> Iterator[SchemaChange]:
        for written, schema in before["versions"].items():
            version = int(written)
            found: JsonSchema | None = after["versions"].get(written)
            if found is None:
                yield _change(
                    "version_unreadable",
                    name,
                    version,
                    "it can't be read any more; add "
                    f"@upcaster({current!r}, from_version={version})",
                )
            elif UPCAST_INTO not in schema and UPCAST_INTO not in found:
                for one in TypeComparison(*self._definitions).changes(schema, found):
                    yield _field_change(one, name, current, version)
        for written in after["versions"]:
            if written not in before["versions"]:
                message = "it is new"
                version = int(written)
                yield _change("version_added", name, version, message, breaks=False)


def _field_change(
    change: TypeChange, name: str, current: str, version: int
) -> SchemaChange:
    remedy = _remedy(change, current, version) if change.is_breaking else ""
    return SchemaChange(
        change.kind,
        name,
        version,
        change.path or None,
        change.message + remedy,
        change.is_breaking,
    )


def _remedy(change: TypeChange, name: str, version: int) -> str:
    upcaster = (
        f"make it version {version + 1}, and add "
        f"@upcaster({name!r}, from_version={version})"
    )
    if change.kind == "field_required":
        return f"; give it a default, or {upcaster}"
    return f"; {upcaster}"


def _newest(event: Mapping[str, Any]) -> JsonSchema:
    """Return the schema of the newest version of a type that a class reads."""
    versions = cast("dict[str, JsonSchema]", event["versions"])
    read = [int(one) for one, schema in versions.items() if UPCAST_INTO not in schema]
    return versions[str(max(read))] if read else {}


def _change(
    kind: str, event: str, version: int | None, message: str, *, breaks: bool = True
) -> SchemaChange:
    return SchemaChange(kind, event, version, None, message, is_breaking=breaks)
