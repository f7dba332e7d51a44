"""Names that annotations of a class find in the function that defines the class.

Under ``from __future__ import annotations`` an annotation is a text, and the names in
it are looked up when it is first needed. For a class that a function defines, they may
be local names of that function. They are found in its frame, as long as the function
runs, and are kept with the class.
"""

from __future__ import annotations

import inspect
import sys
import typing
from typing import TYPE_CHECKING, ForwardRef, cast

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from types import CodeType, FrameType

_KEPT = "__eventbraid_local_names__"
_IN_FUNCTION = ".<locals>."


def keep_local_names(kind: type) -> None:
    """Keep the local names that a class's annotations refer to, while they exist.

    A function may return the class and end, before the annotations are needed.
    """
    if _IN_FUNCTION not in kind.__qualname__:
        return
    try:
        annotations = inspect.get_annotations(kind)
    except NameError:  # Annotations that are no texts refer to a later class.
        return
    local_names(kind, annotations.values())


def local_names(kind: type, annotations: Iterable[object]) -> dict[str, object]:
    """Return the local names of a class's function that annotations refer to.

    Args:
        kind: The class.
        annotations: Annotations of the class.

    Returns:
        The names that are defined so far; none if the class belongs to a module.
    """
    function, _, rest = kind.__qualname__.rpartition(_IN_FUNCTION)
    if not function:
        return {}
    wanted = {name for one in annotations for name in _names_in(one)}
    kept = cast("dict[str, object]", vars(kind).get(_KEPT, {}))
    found = {name: kept[name] for name in wanted & kept.keys()}
    missing = wanted - found.keys()
    if "." not in rest and rest in missing:
        # The function doesn't have the class yet, or has an older one.
        found[rest] = kind
        missing.discard(rest)
    if missing:
        names = _names_of_function(function, kind.__module__)
        found |= {name: names[name] for name in missing & names.keys()}
    if found.keys() - kept.keys():
        setattr(kind, _KEPT, {**kept, **found})
    return found


def _names_of_function(function: str, module: str) -> Mapping[str, object]:
    """Return the local names of a function that is running; none if it isn't."""
    frame: FrameType | None = sys._getframe(1)  # noqa: SLF001 - the documented way to find a caller
    while frame is not None:
        is_wanted = frame.f_code.co_qualname == function
        if is_wanted and frame.f_globals.get("__name__") == module:
            return frame.f_locals
        frame = frame.f_back
    return {}


def _names_in(annotation: object) -> Iterator[str]:
    """Iterate over the names in an annotation that are texts so far."""
    if isinstance(annotation, ForwardRef):
        annotation = annotation.__forward_arg__
    if isinstance(annotation, str):
        try:
            code = compile(annotation, "<annotation>", "eval")
        except (SyntaxError, ValueError):
            return
        yield from _names_of_code(code)
        return
    for argument in typing.get_args(annotation):
        if argument is not annotation:
            yield from _names_in(argument)


def _names_of_code(code: CodeType) -> Iterator[str]:
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, str):  # A text in a text: ``"list['Item']"``.
            yield from _names_in(constant)
