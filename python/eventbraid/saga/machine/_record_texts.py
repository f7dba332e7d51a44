"""Shortens the texts in the records of a saga, so that every store accepts them."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, cast

from msgspec import structs

from eventbraid.saga._text import shortened

if TYPE_CHECKING:
    from eventbraid.saga.machine._events import SagaEvent

# The functions of `_text` return shorter texts. So only a text from a caller can be
# longer.
_MAXIMUM_RECORDED = 4_000
# These fields are names that other records refer to, so they must not be shortened.
_NAMES = frozenset({"choice", "graph_hash", "saga", "signal", "step", "why"})


def with_recordable_texts(event: SagaEvent, names: tuple[str, ...]) -> SagaEvent:
    """Return a record in which texts for people are shortened and can be encoded.

    Args:
        event: The record.
        names: The fields that have such texts, as returned by `text_fields`.
    """
    changed: dict[str, str] = {}
    for name in names:
        text: object = getattr(event, name)
        # Most records have short ASCII texts, which need no encoding.
        if type(text) is str and len(text) <= _MAXIMUM_RECORDED and text.isascii():
            continue
        changed[name] = shortened(text, _MAXIMUM_RECORDED)
    return structs.replace(event, **changed) if changed else event


@functools.cache
def text_fields(kind: type[SagaEvent]) -> tuple[str, ...]:
    """Return the fields of a record class that have texts for people."""
    annotations = cast("dict[str, object]", kind.__annotations__)
    return tuple(
        name
        for name in kind.__struct_fields__
        if annotations[name] in {"str", str} and name not in _NAMES
    )
