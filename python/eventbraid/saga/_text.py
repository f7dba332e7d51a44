"""The texts of other programmers' objects, shortened and encodable for records.

Such texts come from rejections, from callers and from exceptions of any library. A text
may have any size or contain a lone surrogate, and ``__str__`` of its object may raise.
None of this may prevent a saga from reaching its end.
"""

from __future__ import annotations

_MAXIMUM_SHOWN = 80
_MAXIMUM_DESCRIBED = 2_000


def text_of(error: BaseException) -> str:
    """Return the text of an exception, even if its ``__str__`` raises."""
    return safe_text(error)


def described(error: BaseException) -> str:
    """Return the class and the shortened text of an exception."""
    name, text = type(error).__name__, text_of(error)
    return shortened(f"{name}: {text}" if text else name, _MAXIMUM_DESCRIBED)


def safe_text(value: object) -> str:
    """Return the text of an object; if ``__str__`` raises, a text with its class."""
    try:
        return str(value)
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:  # noqa: BLE001 - `__str__` is foreign code
        return f"<{type(value).__name__}, whose str() raises {type(error).__name__}>"


def shown(value: object) -> str:
    """Return the short form of a value for a message."""
    try:
        text = repr(value)
    except Exception as error:  # noqa: BLE001 - `__repr__` is foreign code
        text = f"<{type(value).__name__}, whose repr() raises {type(error).__name__}>"
    return shortened(text, _MAXIMUM_SHOWN)


def shown_argument(value: object) -> str:
    """Return a value as the text that `InvalidArgument` takes, which puts it in quotes.

    So a text is returned without its own quotes, unlike by `shown`.
    """
    return shortened(value, _MAXIMUM_SHOWN) if isinstance(value, str) else shown(value)


def shortened(text: object, maximum: int) -> str:
    """Return a text of limited length that UTF-8 can encode."""
    text = safe_text(text)
    # Shortened first, so that a huge text isn't encoded.
    if len(text) > maximum:
        text = f"{text[: maximum - 1]}…"
    # A lone surrogate, as in some file names, can't be encoded, so it is replaced by an
    # escape sequence.
    return text.encode("utf-8", "backslashreplace").decode()
