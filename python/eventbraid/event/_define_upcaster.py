"""The decorator that registers an upcaster."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar, cast, overload

from eventbraid.domain._invalid_value import shown
from eventbraid.errors import InvalidEventType
from eventbraid.event._event_type import HIGHEST_VERSION, check_name
from eventbraid.event._registry import (
    EventRegistry,
    checked_registry,
    default_registry,
)
from eventbraid.event._upcasting import Upcaster, UpcastEvent

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from eventbraid.store import RecordedEvent

    ToOne: TypeAlias = (
        Callable[[dict[str, Any]], dict[str, Any]]
        | Callable[[dict[str, Any], RecordedEvent], dict[str, Any]]
    )
    ToSeveral: TypeAlias = (
        Callable[[dict[str, Any]], Iterable[UpcastEvent]]
        | Callable[[dict[str, Any], RecordedEvent], Iterable[UpcastEvent]]
    )

F = TypeVar("F", bound="ToOne")
G = TypeVar("G", bound="ToSeveral")


@overload
def upcaster(
    event_type: str,
    /,
    *,
    from_version: int,
    registry: EventRegistry = default_registry,
) -> Callable[[F], F]: ...
@overload
def upcaster(
    event_type: str,
    /,
    *,
    from_version: int,
    into: Iterable[str | tuple[str, int]],
    registry: EventRegistry = default_registry,
) -> Callable[[G], G]: ...
def upcaster(
    event_type: str,
    /,
    *,
    from_version: int,
    into: Iterable[str | tuple[str, int]] | None = None,
    registry: EventRegistry = default_registry,
) -> Callable[[Any], Any]:
    """Register a function that makes newer events of an event of an old version.

    The function gets the event's JSON as a dict, which it may change and return. If it
    has a second parameter, it also gets the `RecordedEvent`, for facts that the body
    lacks, such as the stream or the time. Without ``into``, it returns the JSON of the
    next version. With ``into``, it returns any number of `UpcastEvent`, none to drop
    the event.

    Upcasters are chained: their results pass through the upcasters of later versions
    until a class reads them. They must be pure: the same recorded event must always
    lead to the same events, because it is upcast whenever it is read. The log is never
    changed, and the events of the current version never pass through an upcaster.

    The decorated function stays a plain function, so a test can call it.

    Args:
        event_type: The event type, as it is recorded in the log.
        from_version: The schema version that the function reads.
        into: The event types that the function may lead to, in version 1, or as pairs
            of an event type and a version. By default, it leads to the next version of
            the same event type.
        registry: The registry of the event type.

    Raises:
        InvalidEventType: The version has another upcaster, or an argument is invalid.
        TypeError: The function has neither one nor two parameters.

    Example:
        >>> import eventbraid as eb
        >>> from eventbraid.event import UpcastEvent, upcaster
        >>> @eb.event("doc.wallet.filled", version=2)
        ... class WalletFilled:
        ...     cents: int
        >>> @upcaster("doc.wallet.filled", from_version=1)
        ... def count_in_cents(body):
        ...     return {"cents": body["euros"] * 100}
        >>> @upcaster("doc.wallet.moved", from_version=1, into=["doc.wallet.lost"])
        ... def forget_moves(body):
        ...     return ()
        >>> @eb.event("doc.wallet.lost")
        ... class WalletLost: ...
        >>> with eb.open("memory:") as store:
        ...     done = store.append(
        ...         [("wallet-1", "doc.wallet.filled", b'{"euros": 3}')]
        ...     )
        ...     [raw] = store.read_stream("wallet-1")
        >>> eb.decode_event(raw)
        WalletFilled(cents=300)
    """
    check_name(event_type, from_version)
    if into is None:
        if from_version == HIGHEST_VERSION:
            raise InvalidEventType(
                "upcaster of", event_type, f"there is no version after {from_version}"
            )
        targets: tuple[tuple[str, int], ...] = ((event_type, from_version + 1),)
    else:
        targets = tuple(_checked_targets(event_type, into))

    def register(function: Any) -> Any:
        if not callable(function):
            raise TypeError(
                f"an upcaster must be a function, not {type(function).__name__}"
            )
        _refuse_other_results(function, returns_body=into is None)
        checked_registry(registry).add_upcaster(
            Upcaster(
                source=(event_type, from_version),
                targets=targets,
                function=function,
                name=_name_of(function),
                returns_body=into is None,
                takes_record=_takes_record(function),
            )
        )
        return function

    return register


def _checked_targets(
    event_type: str, into: Iterable[str | tuple[str, int]]
) -> Iterable[tuple[str, int]]:
    if isinstance(into, str):
        raise InvalidEventType(
            "upcaster of",
            event_type,
            f"into={into!r} is one text; give a list: into=[{into!r}]",
        )
    for target in cast("Iterable[object]", into):
        name, version = _checked_target(event_type, target)
        check_name(name, version)
        yield cast("str", name), cast("int", version)


def _checked_target(event_type: str, target: object) -> tuple[object, object]:
    if isinstance(target, str):
        return target, 1
    pair = _members_of(target)
    if len(pair) != 2:  # noqa: PLR2004 - a type and a version
        raise InvalidEventType(
            "upcaster of",
            event_type,
            f"into= contains {shown(target)}, expected an event type or a pair of an "
            "event type and a version",
        )
    return pair[0], pair[1]


def _members_of(target: object) -> tuple[object, ...]:
    return cast("tuple[object, ...]", target) if isinstance(target, tuple) else ()


def _name_of(function: Callable[..., Any]) -> str:
    name: str | None = getattr(function, "__qualname__", None)
    if name is None:
        return shown(function)
    return f"{function.__module__}.{name}"


def _refuse_other_results(function: Callable[..., Any], *, returns_body: bool) -> None:
    """Refuse a function whose result can't be what an upcaster returns.

    Without this, the mistake would be found when the first old event is read.
    """
    if inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(function):
        raise TypeError(
            f"the upcaster {_name_of(function)} is asynchronous; it must be a plain "
            "function, which depends on the recorded event alone"
        )
    if returns_body and inspect.isgeneratorfunction(function):
        raise TypeError(
            f"the upcaster {_name_of(function)} is a generator, which yields events; "
            "declare the event types with into=, or return the body of the next version"
        )


def _takes_record(function: Callable[..., Any]) -> bool:
    """Return whether a function has a second parameter.

    Raises:
        TypeError: It can be called neither with one nor with two arguments.
    """
    required = 0
    for parameter in inspect.signature(function).parameters.values():
        if parameter.kind in {parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD}:
            continue
        is_positional = parameter.kind is not parameter.KEYWORD_ONLY
        if parameter.default is parameter.empty:
            required += 1 if is_positional else 3
    if required not in {1, 2}:
        raise TypeError(
            f"the upcaster {_name_of(function)} must have one parameter, the event's "
            "body, or two, the body and the recorded event"
        )
    return required == 2  # noqa: PLR2004 - the body and the record
