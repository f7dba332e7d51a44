"""Texts of foreign objects, in a form that every record can hold.

They come from rejections, from exceptions of any library and from callers: they may be
of any size, hold half a character, or raise when they are asked for. A saga must reach
its end all the same.
"""

from __future__ import annotations

_MAXIMUM_SHOWN = 80
_MAXIMUM_DESCRIBED = 2_000


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
