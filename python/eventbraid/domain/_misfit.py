"""The error for a value that a schema doesn't allow."""

from __future__ import annotations

from typing import TYPE_CHECKING

from eventbraid.domain._annotation import alternatives, is_defined_again, name_of
from eventbraid.domain._id import Id
from eventbraid.domain._int import Int
from eventbraid.domain._invalid_value import refusal
from eventbraid.domain._text import Text

if TYPE_CHECKING:
    from eventbraid.domain._schema import Misfit
    from eventbraid.errors import InvalidValue


def misfit_error(
    name: str, held: object, annotation: object, misfit: Misfit, *, of: str = "field"
) -> InvalidValue:
    """Make the error for a value that isn't what its annotation says.

    Args:
        name: What holds the value: ``Line.price``.
        held: The value.
        annotation: Its annotation.
        misfit: The part of it that doesn't fit.
        of: What the annotation belongs to.
    """
    subject = f"{misfit.path} is" if misfit.path else "this is"
    bound = f"the {of} holds {name_of(annotation)}, and {subject} {_what(misfit.value)}"
    wanted = misfit.schema.annotation if misfit.path else annotation
    if misfit.reason:
        bound = f"{bound}: {misfit.reason}"
    return refusal(name, held, bound, _remedy(wanted, misfit.value))


def _what(held: object) -> str:
    name = type(held).__name__
    return f"an {name}" if name[0] in "aeiouAEIOU" else f"a {name}"


def _remedy(annotation: object, held: object) -> str:
    for kind in alternatives(annotation):
        if not isinstance(kind, type) or isinstance(held, bool):
            continue
        if is_defined_again(kind, type(held)):
            return (
                f"the class {kind.__name__} was defined again: also define the classes "
                "that use it again, and create the value with the new class"
            )
        if issubclass(kind, Int) and isinstance(held, int):
            return f"write {kind.__name__}({int(held)})"
        if issubclass(kind, Id | Text) and isinstance(held, str):
            return f"write {kind.__name__}({str(held)!r})"
        if kind is int and isinstance(held, Int):
            return "write int(value)"
    return f"give {name_of(annotation)}"
