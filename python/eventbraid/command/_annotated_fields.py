"""Builds the descriptors of a command's declared streams from its annotations.

A field ``source: eb.Declared[Account]`` has no value in the class body. So only the
annotation shows the kind of its stream. With ``from __future__ import annotations`` the
annotation is a text, which is evaluated while the class is being defined.
"""

from __future__ import annotations

import dataclasses
import inspect
import sys
import types
import typing
from typing import TYPE_CHECKING, Any, TypeAlias, cast

from eventbraid.command._declared import Declared, DeclaredMany
from eventbraid.command._stream import Stream
from eventbraid.domain._annotation import alternatives, bare

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

AnyDeclared: TypeAlias = Declared[Any] | DeclaredMany[Any]


def make_dataclass(cls: type) -> None:
    """Make a frozen, keyword-only dataclass of a command's class.

    The descriptors of declared streams are set after that. Otherwise the dataclass
    would use a descriptor that it finds in the class, or in a base class, as the
    default of the field.

    Raises:
        TypeError: An annotation doesn't name the kind of its stream.
    """
    annotations = _annotations_of(cls)
    declared = list(_descriptors(cls, annotations))
    for name in annotations:
        if _is_declared(inspect.getattr_static(cls, name, None)):
            setattr(cls, name, dataclasses.field())
    dataclasses.dataclass(frozen=True, kw_only=True)(cls)
    for descriptor in declared:
        setattr(cls, descriptor.name, descriptor)


def _descriptors(cls: type, annotations: Mapping[str, object]) -> Iterator[AnyDeclared]:
    known = _names_visible_to(cls)
    for name, written in annotations.items():
        place = f"{cls.__name__}.{name}"
        annotation = bare(_evaluated(written, known, place))
        form = typing.get_origin(annotation)
        if form is Declared or form is DeclaredMany:
            [kind] = typing.get_args(annotation)
            yield form(_checked_kind(kind, place), name)
        elif any(map(_is_form, alternatives(annotation))):
            raise TypeError(
                f"{place} can't be {annotation}: annotate it with Declared[Account], "
                "where Account is a kind of stream, or with DeclaredMany[Account] if "
                "the command may have no such stream"
            )


def _evaluated(written: object, known: dict[str, Any], place: str) -> object:
    """Return the value of an annotation; if it declares no stream, it may stay a text.

    Raises:
        TypeError: The annotation declares a stream, and can't be evaluated.
    """
    try:
        return _hint(written, known)
    except Exception as error:
        # Any other annotation may name a class that is defined later.
        if not _declares(written, known):
            return written
        raise TypeError(
            f"{place} declares a stream, but {written!r} can't be evaluated ({error}); "
            "define the kind of the stream before the command, and import it outside "
            "of `if TYPE_CHECKING`"
        ) from error


def _declares(written: object, known: dict[str, Any]) -> bool:
    """Return whether an annotation that can't be evaluated begins with `Declared`."""
    if not isinstance(written, str):
        return _is_form(written)
    try:
        return _is_form(_hint(written.partition("[")[0], known))
    except Exception:  # noqa: BLE001 - the text may be anything
        return False


def _hint(written: object, known: dict[str, Any]) -> object:
    holder = types.SimpleNamespace(__annotations__={"it": written})
    # If one namespace is passed for both arguments, `typing` caches the value of a
    # text. It could then return the class that an equal text named in another module.
    hints = typing.get_type_hints(
        holder, globalns={}, localns=known, include_extras=True
    )
    return hints["it"]


def _is_declared(value: object) -> bool:
    return isinstance(value, Declared | DeclaredMany)


def _is_form(annotation: object) -> bool:
    form = typing.get_origin(annotation) or annotation
    return form is Declared or form is DeclaredMany


def _checked_kind(kind: Any, place: str) -> type[Stream[Any, Any]]:
    found = typing.get_origin(kind) or kind
    is_class = isinstance(found, type)
    if is_class and issubclass(found, Stream) and found.category:
        return cast("type[Stream[Any, Any]]", found)
    shown = found.__name__ if is_class else repr(kind)
    raise TypeError(
        f"{place} declares {shown}, which is not a kind of stream: derive one, as in "
        'class Account(Stream[AccountEvent], category="account"), and annotate the '
        "field with Declared[Account]"
    )


def _names_visible_to(cls: type) -> dict[str, Any]:
    """Return the names that the annotations of a class being defined may use.

    The class statement is still being executed, so the frames of the module and of the
    functions around it are on the stack. The frames are needed because a module that
    `exec` runs has no entry in `sys.modules`.
    """
    module_names: dict[str, Any] | None = None
    local_names: dict[str, Any] = {}
    functions = _functions_around(cls.__qualname__)
    frame = inspect.currentframe()
    while frame is not None:
        if frame.f_globals.get("__name__", "builtins") == cls.__module__:
            module_names = module_names or frame.f_globals
            if frame.f_code.co_qualname in functions:
                # The frame of an inner function is found before that of an outer one.
                # Its names have priority.
                local_names = {**frame.f_locals, **local_names}
        frame = frame.f_back
    if module_names is None:
        module = sys.modules.get(cls.__module__)
        module_names = dict(vars(module)) if module else {}
    return {**vars(cls), **module_names, **local_names}


def _functions_around(qualified: str) -> set[str]:
    """Return the qualified names of the functions around a class."""
    parts = qualified.split(".<locals>.")
    return {".<locals>.".join(parts[:count]) for count in range(1, len(parts))}


def _annotations_of(cls: type) -> Mapping[str, object]:
    """Return the annotations of a class, even if some names in them don't exist yet."""
    if sys.version_info >= (3, 14):
        import annotationlib  # noqa: PLC0415 - new in Python 3.14

        wanted = annotationlib.Format.FORWARDREF
        return annotationlib.get_annotations(cls, format=wanted)
    return inspect.get_annotations(cls)
