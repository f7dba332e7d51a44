"""Texts with a meaning and a form."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from eventbraid.domain._invalid_value import check_bound, check_pattern, refusal
from eventbraid.domain._pydantic import pydantic_schema
from eventbraid.errors import InvalidArgument

if TYPE_CHECKING:
    import re
    from typing import Self

    from pydantic import GetJsonSchemaHandler
    from pydantic_core import CoreSchema


class Text(str):
    """A text of one kind, such as a postal code, with a length and a form.

    Derive a class for each kind. It is a `str` in every other respect: it compares
    and hashes as one, and what is cut out of it is a bare `str`.

    Raises:
        InvalidValue: The text is too short, too long, or of another form.

    Example:
        >>> import eventbraid as eb
        >>> class CountryCode(eb.Text, pattern="[A-Z]{2}"):
        ...     "ISO 3166-1 alpha-2."
        >>> CountryCode("DE")
        CountryCode('DE')
        >>> CountryCode("Germany")
        Traceback (most recent call last):
        ...
        eventbraid.errors.InvalidValue: 'Germany' is not a valid CountryCode: ...
    """

    __slots__ = ()

    _shortest: ClassVar[int] = 1
    _longest: ClassVar[int | None] = None
    _form: ClassVar[re.Pattern[str] | None] = None

    def __init_subclass__(
        cls,
        *,
        min_length: int | None = None,
        max_length: int | None = None,
        pattern: str | None = None,
    ) -> None:
        """Set the rules of a new kind.

        Args:
            min_length: The least number of characters; 1 by default.
            max_length: The greatest number of characters.
            pattern: A regular expression that the whole text must match.

        Raises:
            InvalidArgument: A length is not an `int` of 0 or more, no text has an
                allowed length, or the pattern can't be compiled.
        """
        super().__init_subclass__()
        if min_length is not None:
            cls._shortest = _check_length(cls, "min_length", min_length)
        if max_length is not None:
            cls._longest = _check_length(cls, "max_length", max_length)
        if pattern is not None:
            cls._form = check_pattern(cls, pattern)
        if cls._longest is not None and cls._longest < cls._shortest:
            raise InvalidArgument(
                f"max_length of {cls.__name__}",
                str(cls._longest),
                f"no text can have it and at least {cls._shortest} characters; change "
                "max_length, or give a smaller min_length",
            )

    def __new__(cls, value: str, /) -> Self:
        """Make a text of this kind, or refuse."""
        if type(value) is cls:
            return value
        broken = cls._broken_rule(value)
        if broken is not None:
            raise refusal(cls.__name__, value, broken, "check it beforehand")
        return super().__new__(cls, value)

    @classmethod
    def _broken_rule(cls, value: object) -> str | None:
        if not isinstance(value, str):
            return "it is not a text"
        if len(value) < cls._shortest:
            return f"it must have at least {cls._shortest} characters"
        if cls._longest is not None and len(value) > cls._longest:
            return f"it must have at most {cls._longest} characters"
        if cls._form is not None and cls._form.fullmatch(value) is None:
            return f"it must have the form {cls._form.pattern}"
        return None

    def __repr__(self) -> str:
        return f"{type(self).__name__}({str.__repr__(self)})"

    @classmethod
    def __get_pydantic_core_schema__(
        cls, source: object, handler: object, /
    ) -> CoreSchema:
        """Return how pydantic validates, reads and writes a text of this kind."""
        bounds = {"min_length": cls._shortest, "max_length": cls._longest}
        return pydantic_schema(
            cls, str, {name: n for name, n in bounds.items() if n is not None}
        )

    @classmethod
    def __get_pydantic_json_schema__(
        cls, schema: CoreSchema, handler: GetJsonSchemaHandler, /
    ) -> dict[str, Any]:
        """Add the form of a text to its JSON schema."""
        found = handler(schema)
        if cls._form is not None:
            found["pattern"] = f"^(?:{cls._form.pattern})$"
        return found


def _check_length(kind: type[Text], name: str, length: object) -> int:
    remedy = "leave it out to have no limit"
    checked = check_bound(kind, name, length, remedy)
    if checked < 0:
        reason = f"it must be 0 or more; {remedy}"
        raise InvalidArgument(f"{name} of {kind.__name__}", str(checked), reason)
    return checked
