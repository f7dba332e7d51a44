"""Texts for people, in a form that every record can hold.

They come from rejections, from exceptions of any library and from callers: they may be
of any size, hold half a character, or raise when they are asked for. A saga must reach
its end all the same.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, cast

from msgspec import structs

if TYPE_CHECKING:
    from collections.abc import Iterable

    from eventbraid.saga.machine._events import SagaEvent

_MAXIMUM_SHOWN = 80
_MAXIMUM_DESCRIBED = 2_000
# More than each function here produces by itself; what exceeds it came from outside.
_MAXIMUM_RECORDED = 4_000
# Names by which records refer to something are never changed.
_NAMES = frozenset({"graph_hash", "saga", "step", "why"})


def text_of(error: BaseException) -> str:
    """Return the text of an exception, whatever its ``__str__`` does."""
    return safe_text(error)


def described(error: BaseException) -> str:
    """Return the class and the shortened text of an exception."""
    name, text = type(error).__name__, text_of(error)
    return shortened(f"{name}: {text}" if text else name, _MAXIMUM_DESCRIBED)


def safe_text(value: object) -> str:
    """Return the text of an object; its class if the object can't give one."""
    try:
        return str(value)
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:  # noqa: BLE001 - any code may stand there
        return f"<{type(value).__name__}, whose str() raises {type(error).__name__}>"


def shown(value: object) -> str:
    """Return the short form of a value for a message."""
    try:
        text = repr(value)
    except Exception as error:  # noqa: BLE001 - any code may stand there
        text = f"<{type(value).__name__}, whose repr() raises {type(error).__name__}>"
    return shortened(text, _MAXIMUM_SHOWN)


def shortened(text: object, maximum: int) -> str:
    """Return a text of limited length that UTF-8 can encode."""
    text = safe_text(text)
    # Cut first: the rest of a huge text needn't be encoded.
    if len(text) > maximum:
        text = f"{text[: maximum - 1]}…"
    # A lone surrogate, as in some file names, can't be encoded and so not recorded.
    return text.encode("utf-8", "backslashreplace").decode()


def recordable(events: Iterable[SagaEvent]) -> tuple[SagaEvent, ...]:
    """Return records whose texts for people are text, of limited length."""
    made: list[SagaEvent] = []
    for event in events:
        names = _texts(type(event))
        made.append(_with_recordable_texts(event, names) if names else event)
    return tuple(made)


def _with_recordable_texts(event: SagaEvent, names: tuple[str, ...]) -> SagaEvent:
    changed: dict[str, str] = {}
    for name in names:
        text: object = getattr(event, name)
        # Without the common case's encoding: most records have short ASCII texts.
        if type(text) is str and len(text) <= _MAXIMUM_RECORDED and text.isascii():
            continue
        changed[name] = shortened(text, _MAXIMUM_RECORDED)
    return structs.replace(event, **changed) if changed else event


@functools.cache
def _texts(kind: type[SagaEvent]) -> tuple[str, ...]:
    """Return the fields of a record that hold texts for people."""
    annotations = cast("dict[str, object]", kind.__annotations__)
    return tuple(
        name
        for name in kind.__struct_fields__
        if annotations[name] in {"str", str} and name not in _NAMES
    )
