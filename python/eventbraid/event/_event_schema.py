"""The schema of a registry: its event types, as a file that can be compared."""

from __future__ import annotations

import json
from collections import defaultdict
from typing import TYPE_CHECKING, Any, TypeAlias, cast

from eventbraid.errors import InvalidArgument
from eventbraid.event._json_schema import JsonSchema, SchemaWriter
from eventbraid.event._registry import EventRegistry, default_registry

if TYPE_CHECKING:
    from collections.abc import Mapping

FORMAT = "eventbraid-schema"
"""The key of the version of the file's format; it identifies a schema file."""

FORMAT_VERSION = 1

EventSchema: TypeAlias = "dict[str, Any]"
"""The schema of a registry, as plain JSON; see `event_schema`."""

UPCAST_INTO = "upcast_into"
"""The key of a version that no class reads, but an upcaster: where it leads to."""

_WIDTH = 88


def event_schema(*, registry: EventRegistry = default_registry) -> EventSchema:
    """Return the schema of all event types of a registry.

    It has each event type with its former names and versions. A version has the JSON
    Schema of its class, or the versions to which its upcaster leads. Nested classes are
    definitions of their own. The library's own events are left out.

    The result is plain JSON, and the same in each process. `eventbraid schema dump`
    writes it to a file, and `schema_changes` compares it with an earlier one.

    Args:
        registry: The registry.

    Example:
        >>> import eventbraid as eb
        >>> from eventbraid.event import EventRegistry, event_schema
        >>> shop = EventRegistry()
        >>> @eb.event("parcel.sent", registry=shop)
        ... class ParcelSent:
        ...     grams: int
        ...     note: str = ""
        >>> event_schema(registry=shop)["events"]["parcel.sent"]["versions"]["1"]
        {'type': 'object',
         'properties': {'grams': {'type': 'integer'},
                        'note': {'type': 'string', 'default': ''}},
         'required': ['grams']}
    """
    writer = SchemaWriter()
    former: defaultdict[str, list[str]] = defaultdict(list)
    for name, current in registry.former_names.items():
        former[current].append(name)
    versions: defaultdict[str, dict[int, JsonSchema]] = defaultdict(dict)
    oldest: defaultdict[str, int] = defaultdict(lambda: 1)
    for found in sorted(registry.types(), key=lambda one: (one.name, one.version)):
        versions[found.name][found.version] = writer.of_class(found.kind)
        oldest[found.name] = max(oldest[found.name], found.oldest_version)
    for (name, version), upcaster in registry.upcasters.items():
        current = registry.former_names.get(name, name)
        leads_to = [f"{target} version {number}" for target, number in upcaster.targets]
        versions[current][version] = {UPCAST_INTO: leads_to}
    events = {
        name: _event(versions[name], sorted(former[name]), oldest[name])
        for name in sorted(versions)
    }
    definitions = {
        name: writer.definitions[name] for name in sorted(writer.definitions)
    }
    return {FORMAT: FORMAT_VERSION, "events": events, "$defs": definitions}


def _event(
    versions: Mapping[int, JsonSchema], formerly: list[str], oldest: int
) -> dict[str, Any]:
    found: dict[str, Any] = {}
    if formerly:
        found["formerly"] = formerly
    if oldest > 1:
        found["oldest_version"] = oldest
    found["versions"] = {str(one): versions[one] for one in sorted(versions)}
    return found


def schema_text(schema: EventSchema) -> str:
    """Return a schema as the text of a file, which reads well in a diff.

    Args:
        schema: The schema, as `event_schema` returns it.

    Example:
        >>> from eventbraid.event import EventRegistry, event_schema, schema_text
        >>> print(schema_text(event_schema(registry=EventRegistry())), end="")
        {
          "eventbraid-schema": 1,
          "events": {},
          "$defs": {}
        }
    """
    return _formatted(schema, "") + "\n"


def schema_of_text(text: str | bytes) -> EventSchema:
    """Return the schema that a file contains.

    Args:
        text: The content of the file.

    Raises:
        InvalidArgument: It isn't a schema file, or one of a newer format.

    Example:
        >>> from eventbraid.event import schema_of_text
        >>> schema_of_text('{"eventbraid-schema": 1, "events": {}, "$defs": {}}')
        {'eventbraid-schema': 1, 'events': {}, '$defs': {}}
    """
    try:
        found: object = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise _no_schema(f"it is not JSON ({error})") from error
    entries = cast("dict[str, Any]", found) if isinstance(found, dict) else {}
    version: object = entries.get(FORMAT)
    if version is None:
        raise _no_schema(f"it has no key {FORMAT!r}")
    if version != FORMAT_VERSION:
        raise _no_schema(
            f"its format is {version!r}, and this program reads {FORMAT_VERSION}; use "
            "the version of Eventbraid that wrote it, or a newer one"
        )
    if not _is_well_formed(entries):
        raise _no_schema("its events aren't in the form that the command writes")
    return entries


def _is_well_formed(entries: dict[str, Any]) -> bool:
    events, definitions = entries.get("events"), entries.get("$defs")
    if not isinstance(events, dict) or not isinstance(definitions, dict):
        return False
    members = cast("dict[str, object]", events).values()
    return all(_is_event(one) for one in members)


def _is_event(entry: object) -> bool:
    if not isinstance(entry, dict):
        return False
    fields = cast("dict[str, object]", entry)
    versions, formerly = fields.get("versions"), fields.get("formerly", [])
    return (
        isinstance(versions, dict)
        and isinstance(formerly, list)
        and all(
            version.isdecimal() and isinstance(one, dict)
            for version, one in cast("dict[str, object]", versions).items()
        )
    )


def _no_schema(reason: str) -> InvalidArgument:
    return InvalidArgument(
        "schema file",
        "",
        f"{reason}; write one with `eventbraid schema dump`",
    )


def _formatted(value: object, indent: str) -> str:
    """Format JSON: what fits on a line is one line, so that a diff shows a field."""
    line = json.dumps(value, ensure_ascii=False)
    deeper = indent + "  "
    is_small = len(indent) + len(line) <= _WIDTH - 2 and _depth(value) <= 1
    if not isinstance(value, dict | list) or not value or is_small:
        return line
    if isinstance(value, list):
        items = cast("list[object]", value)
        lines = [deeper + _formatted(one, deeper) for one in items]
        return "[\n" + ",\n".join(lines) + f"\n{indent}]"
    entries = cast("dict[str, object]", value)
    lines = [
        f"{deeper}{json.dumps(name, ensure_ascii=False)}: {_formatted(one, deeper)}"
        for name, one in entries.items()
    ]
    return "{\n" + ",\n".join(lines) + f"\n{indent}}}"


def _depth(value: object) -> int:
    if isinstance(value, dict):
        members = list(cast("dict[str, object]", value).values())
    elif isinstance(value, list):
        members = cast("list[object]", value)
    else:
        return 0
    return 1 + max(map(_depth, members), default=0)
