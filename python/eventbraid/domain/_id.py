"""Identifiers that are stream ids at the same time."""

from __future__ import annotations

import re
import uuid
from typing import TYPE_CHECKING, Any, ClassVar

from eventbraid._native import uuid7
from eventbraid.domain._invalid_value import refusal, shown
from eventbraid.domain._pydantic import pydantic_schema

if TYPE_CHECKING:
    from typing import Self

    from pydantic import GetJsonSchemaHandler
    from pydantic_core import CoreSchema

MOST_BYTES = 255
_PREFIX = re.compile(r"[A-Za-z0-9_.$]+")
_UNFIT = re.compile(r"[\s\x00-\x1f\x7f-\x9f\ud800-\udfff]")
_SEPARATOR = "\x1f"
_NAMESPACE = uuid.UUID("6c7f1d0e-6f0a-5f59-9b6b-2a1d7d0f6e11")


class Id(str):
    """An identifier of one kind, such as an order's, written ``prefix-rest``.

    Derive a class for each kind of thing and give its prefix. An id is a `str`: it
    can name a stream (its prefix is then the stream's category), be a key of a
    mapping, and be printed. It has 1 to 255 bytes of UTF-8 and no white space.

    Raises:
        InvalidValue: The text isn't an id of this kind.

    Example:
        >>> import eventbraid as eb
        >>> class OrderId(eb.Id, prefix="order"): ...
        >>> OrderId("order-17")
        OrderId('order-17')
        >>> OrderId.new() < OrderId.new()
        True
        >>> OrderId.derived("cdnow", 1) == OrderId.derived("cdnow", 1)
        True
        >>> OrderId("payment-17")
        Traceback (most recent call last):
        ...
        eventbraid.errors.InvalidValue: 'payment-17' is not a valid OrderId: ...
    """

    __slots__ = ()

    prefix: ClassVar[str] = ""
    _start: ClassVar[str] = ""

    def __init_subclass__(cls, *, prefix: str | None = None) -> None:
        """Set the prefix of a new kind.

        Args:
            prefix: What stands before the first ``-``; inherited if not given.
                Without any prefix, an id is any text without white space.
        """
        super().__init_subclass__()
        if prefix is None:
            return
        if not _is_prefix(prefix):
            raise TypeError(
                f"{shown(prefix)} can't be the prefix of {cls.__name__}: "
                "give letters, digits, '_', '.' or '$', without '-'"
            )
        cls.prefix = prefix
        cls._start = f"{prefix}-"

    def __new__(cls, value: str, /) -> Self:
        """Make an id of a text, or refuse."""
        if type(value) is cls:
            return value
        broken = cls._broken_rule(value)
        if broken is not None:
            remedy = f"make one with {cls.__name__}.new(), or check the text beforehand"
            raise refusal(cls.__name__, value, broken, remedy)
        return super().__new__(cls, value)

    @classmethod
    def _broken_rule(cls, value: object) -> str | None:
        if not isinstance(value, str):
            return "it is not a text"
        if not value.startswith(cls._start) or len(value) == len(cls._start):
            return f"it must be {cls._start!r} and something after it"
        if _UNFIT.search(value) is not None:
            return "it must have no white space and no control characters"
        # A character has at most four bytes, so that most ids need no encoding.
        if len(value) * 4 > MOST_BYTES and len(value.encode()) > MOST_BYTES:
            return (
                f"it has {len(value.encode())} bytes of UTF-8, expected at most "
                f"{MOST_BYTES}; use a shorter one, for example a UUID or a hash"
            )
        return None

    @classmethod
    def new(cls) -> Self:
        """Make an id that no one else has, and that sorts after earlier ones.

        Returns:
            The prefix and a UUIDv7.

        Example:
            >>> import eventbraid as eb
            >>> class OrderId(eb.Id, prefix="order"): ...
            >>> OrderId.new().startswith("order-")
            True
        """
        return cls(f"{cls._start}{uuid7()}")

    @classmethod
    def derived(cls, *names: str | int) -> Self:
        """Make the id that always stands for these names, here and elsewhere.

        So something that comes from outside twice gets the same id twice. Another
        kind of id made of the same names is another id.

        Args:
            *names: What it is known by outside, most general first.

        Returns:
            The prefix and a UUIDv5.

        Example:
            >>> import eventbraid as eb
            >>> class OrderId(eb.Id, prefix="order"): ...
            >>> OrderId.derived("cdnow", 7)
            OrderId('order-...')
        """
        texts = [str(name) for name in names]
        if not texts or any(not text or _SEPARATOR in text for text in texts):
            raise refusal(
                cls.__name__,
                names,
                "it needs names to derive from, none of them empty",
                "give what the thing is known by outside",
            )
        known_by = _SEPARATOR.join((cls.prefix, *texts))
        return cls(f"{cls._start}{uuid.uuid5(_NAMESPACE, known_by)}")

    def __repr__(self) -> str:
        return f"{type(self).__name__}({str.__repr__(self)})"

    @classmethod
    def __get_pydantic_core_schema__(
        cls, source: object, handler: object, /
    ) -> CoreSchema:
        """Return how pydantic validates, reads and writes an id of this kind."""
        return pydantic_schema(cls, str, {"max_length": MOST_BYTES})

    @classmethod
    def __get_pydantic_json_schema__(
        cls, schema: CoreSchema, handler: GetJsonSchemaHandler, /
    ) -> dict[str, Any]:
        """Add the form of an id to its JSON schema."""
        start = re.sub("[.$]", r"\\\g<0>", cls._start)
        return {**handler(schema), "pattern": rf"^{start}\S+$"}


def _is_prefix(prefix: object) -> bool:
    return isinstance(prefix, str) and _PREFIX.fullmatch(prefix) is not None
