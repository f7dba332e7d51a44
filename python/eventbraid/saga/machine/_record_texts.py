"""Texts in the records of a saga, shortened to a length that every record can hold."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, cast

from msgspec import structs

from eventbraid.saga._text import shortened

if TYPE_CHECKING:
    from eventbraid.saga.machine._events import SagaEvent

# More than each function of `_text` returns; a longer text is a caller's.
_MAXIMUM_RECORDED = 4_000
# Fields that refer to something by its name must not be shortened.
_NAMES = frozenset({"graph_hash", "saga", "step", "why"})


def with_recordable_texts(event: SagaEvent, names: tuple[str, ...]) -> SagaEvent:
    """Return a record whose texts for people are text, of limited length.

    Args:
        event: The record.
        names: The fields that hold such texts, by `text_fields`.
    """
    changed: dict[str, str] = {}
    for name in names:
        text: object = getattr(event, name)
        # Without the common case's encoding: most records have short ASCII texts.
        if type(text) is str and len(text) <= _MAXIMUM_RECORDED and text.isascii():
            continue
        changed[name] = shortened(text, _MAXIMUM_RECORDED)
    return structs.replace(event, **changed) if changed else event


@functools.cache
def text_fields(kind: type[SagaEvent]) -> tuple[str, ...]:
    """Return the fields of a record that hold texts for people."""
    annotations = cast("dict[str, object]", kind.__annotations__)
    return tuple(
        name
        for name in kind.__struct_fields__
        if annotations[name] in {"str", str} and name not in _NAMES
    )
