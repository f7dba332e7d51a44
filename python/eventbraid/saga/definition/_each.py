"""A step for each item that is found at run time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, TypeVar, cast, overload

from eventbraid.errors import InvalidSaga
from eventbraid.saga._text import shown
from eventbraid.saga.definition._step import LocalStep, Step
from eventbraid.saga.definition._step_checks import require_synchronous

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from eventbraid.saga.definition._step_base import SagaStep

S = TypeVar("S")
T = TypeVar("T")
R = TypeVar("R")

DEFAULT_CONCURRENCY = 16
BEFORE_KEY = "["
"""The character between the name of a step and the key of an item."""


@dataclass(frozen=True, slots=True)
class ItemState(Generic[S, T]):
    """The state for the functions of a step that is executed for each item.

    Attributes:
        state: The saga's state, folded from the results so far.
        key: The key of the item.
        item: The item. It is taken from the saga's state as it was when the saga
            reached the step, and so is the same for all attempts and for the
            compensation.

    Example:
        >>> import eventbraid as eb
        >>> eb.saga.ItemState({"a": 1}, "a", 1).item
        1
    """

    state: S
    key: str
    item: T


@dataclass(frozen=True, slots=True)
class Each(Generic[S]):
    """A step for each item of the saga's state; built by `each`.

    Attributes:
        items: Returns the items by their keys, from the saga's state.
        step: The step. Its state is an `ItemState`.
        concurrency: The maximum number of items whose step is executed at the same
            time.
        then: Returns the new state from the state and the results by key.

    Example:
        >>> import eventbraid as eb
        >>> ship = eb.local_step("ship", lambda context: context.state.item)
        >>> eb.saga.each(lambda state: state.parcels, ship).concurrency
        16
    """

    items: Callable[[S], Mapping[str, Any]]
    step: SagaStep[Any]
    concurrency: int
    then: Callable[[S, Mapping[str, Any]], S] | None


@overload
def each(
    items: Callable[[S], Mapping[str, T]],
    step: Step[ItemState[S, T], R],
    /,
    *,
    concurrency: int = ...,
    then: Callable[[S, Mapping[str, R]], S] | None = ...,
) -> Each[S]: ...


@overload
def each(
    items: Callable[[S], Mapping[str, T]],
    step: LocalStep[ItemState[S, T]],
    /,
    *,
    concurrency: int = ...,
) -> Each[S]: ...


def each(
    items: Callable[[S], Mapping[str, T]],
    step: SagaStep[ItemState[S, T]],
    /,
    *,
    concurrency: int = DEFAULT_CONCURRENCY,
    then: Callable[[S, Mapping[str, Any]], S] | None = None,
) -> Each[S]:
    """Return a group that executes a step for each item of the saga's state.

    The items are read when the saga reaches the group, and their keys are recorded.
    The records and the idempotency keys refer to the step of an item by the step's name
    and the item's key, as in ``book hotel[hotel-7]``. So a key must always stand for
    the same item, such as the id of an order's line; an index isn't such a key.

    If the step fails for good for one item, it is started for no other item. The calls
    in flight are awaited, and then the saga is compensated.

    Args:
        items: Returns the items by their keys: printable text, such that the
            idempotency keys have at most 255 bytes, and all keys together at most 1
            MiB. It must be pure, because it is
            called for each attempt and after restarts, with the saga's state as it was
            when the saga reached the group.
        step: The step, declared over `ItemState`. It has no ``then`` of its own, and is
            never a pivot unless there is nothing that may fail after it.
        concurrency: The maximum number of items whose step is executed, or compensated,
            at the same time.
        then: Returns the saga's new state from its state and the results by key. It is
            called once all items are settled, and must be pure. There are no results of
            items whose step was skipped, or was replaced by another command.

    Raises:
        InvalidSaga: The step isn't a step or has a ``then``, a function is
            asynchronous, or the concurrency is below 1.

    Example:
        >>> import eventbraid as eb
        >>> from datetime import timedelta
        >>> Parcels = dict[str, str]
        >>> async def ship(
        ...     context: eb.StepContext[eb.saga.ItemState[Parcels, str]],
        ... ) -> str:
        ...     return f"shipped to {context.state.item}"
        >>> shipping = eb.step("ship", ship, timeout=timedelta(seconds=5))
        >>> group = eb.saga.each(
        ...     lambda parcels: parcels,
        ...     shipping.without_compensation(),
        ...     then=lambda parcels, shipped: {**parcels, **shipped},
        ... )
        >>> eb.Saga("delivery", Parcels, steps=[group]).steps[0].name
        'ship'
    """
    found = cast("object", step)
    if not isinstance(found, Step | LocalStep):
        raise InvalidSaga(
            f"each() needs a step, not {shown(found)}; build it with step() or "
            "local_step()"
        )
    name = step.name
    if cast("Step[Any, Any]", step).then is not None:
        raise InvalidSaga(
            f"step {name!r} has a `then`, but is executed for each item; give the "
            "`then` to each(), where it gets all results",
            step=name,
        )
    if BEFORE_KEY in name:
        raise InvalidSaga(
            f"the name of step {name!r} contains {BEFORE_KEY!r}; the records need this "
            "character between the name and the key of an item; use another name",
            step=name,
        )
    if concurrency < 1:
        raise InvalidSaga(
            f"step {name!r}: the concurrency is at least 1, not {concurrency}",
            step=name,
        )
    require_synchronous(name, items=items, then=then)
    return Each(items, step, concurrency, then)


def instance_name(step: str, key: str) -> str:
    """Return the name of the step of one item."""
    return f"{step}{BEFORE_KEY}{key}]"


def split_instance(name: str) -> tuple[str, str]:
    """Return the name of the step and the key of the item.

    The key is empty if the name isn't that of the step of an item.
    """
    step, bracket, rest = name.partition(BEFORE_KEY)
    return (step, rest[:-1]) if bracket and rest.endswith("]") else (name, "")
