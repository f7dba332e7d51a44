"""The decisions about a step that is executed for each item of the saga's state."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Protocol, TypeVar, cast

from eventbraid.saga._defect_classification import Defect, trouble_of
from eventbraid.saga._text import shown
from eventbraid.saga.definition._each import (
    ItemState,
    instance_name,
    split_instance,
)
from eventbraid.saga.definition._step import external
from eventbraid.saga.machine._events import ItemsCompleted, ItemsListed
from eventbraid.saga.machine._idempotency_keys import MAXIMUM_KEY_BYTES, longest_key
from eventbraid.saga.machine._progress import items_of

if TYPE_CHECKING:
    from collections.abc import Iterable

    import msgspec

    from eventbraid.saga.definition._codec import Encoded
    from eventbraid.saga.definition._each import Each
    from eventbraid.saga.definition._saga import Saga
    from eventbraid.saga.machine._draft import Draft

S = TypeVar("S")

KEYS_LIMIT = 2**20
"""The maximum size of the keys of a step's items together, in bytes."""


class SagaData(Protocol):
    """The data of a saga: those of a recorded state or of a draft."""

    @property
    def data(self) -> Encoded[Any]:
        """The fold of the results."""
        ...

    @property
    def before_items(self) -> Mapping[str, Encoded[Any]]:
        """The data when the saga reached a step that is executed for each item."""
        ...


def list_items(draft: Draft[Any], step: str) -> None:
    """Record the keys of the items for which a step is executed.

    Raises:
        Defect: ``items`` raised, or returned no mapping with valid keys.
        Outage: ``items`` raised an `OSError`.
    """
    group = draft.saga.fan_outs[step]
    items = _items(group, step, draft.data)
    size = 0
    for key in items:
        problem = _problem_of_key(draft.progress.id, step, key)
        if problem is not None:
            raise Defect(step, "items", ValueError(problem))
        size += len(key.encode())
    if size > KEYS_LIMIT:
        # The record would be refused. It is in one commit with the step before, whose
        # success would then count as one that can't be recorded.
        too_many = ValueError(
            f"the keys of the {len(items):,} items of step {step!r} have {size:,} "
            f"bytes, expected at most {KEYS_LIMIT:,}; use fewer items, or shorter keys"
        )
        raise Defect(step, "items", too_many)
    draft.record(ItemsListed(step, tuple(items), group.concurrency))
    draft.keep_data_before_items(step)


def complete_items(draft: Draft[Any], step: str) -> None:
    """Record that a step is settled for all items, and fold the results.

    Raises:
        Defect: ``then`` raised, or returned no state.
        Outage: ``then`` raised an `OSError`.
    """
    progress = draft.progress
    items = items_of(progress, step)
    keys = () if items is None else items.keys
    without_result = tuple(
        [key for key in keys if instance_name(step, key) not in progress.results]
    )
    event = ItemsCompleted(step, without_result)
    try:
        data = fold_items(draft.saga, event, keys, progress.results, draft.data)
    except BaseException as error:
        raise trouble_of(step, "then", error) from error
    draft.record(event)
    draft.take_data(data)


def fold_items(
    saga: Saga[S],
    event: ItemsCompleted,
    keys: Iterable[str],
    results: Mapping[str, msgspec.Raw],
    data: Encoded[S],
) -> Encoded[S]:
    """Fold the results of a step that was executed for each item into the data.

    Args:
        saga: The saga's declaration.
        event: The record after the last item.
        keys: The keys of the items.
        results: The recorded results of all steps, as JSON.
        data: The data before.

    Raises:
        UnfitValue: ``then`` returned a value that is not a state of this saga.
        Exception: The exception that ``then`` raised.
    """
    group = saga.fan_outs[event.step]
    if group.then is None:
        return data
    decode = external(group.step).result.decode
    missing = set(event.without_result)
    found = {
        key: decode(results[instance_name(event.step, key)])
        for key in keys
        if key not in missing
    }
    return saga.keep_state(event.step, group.then(data.read(), found))


def state_for(saga: Saga[Any], data: SagaData, step: str) -> Any:
    """Return the state for the functions of a step.

    Args:
        saga: The saga's declaration.
        data: The saga's data.
        step: The name of the step, which may be that of an item's step.

    Returns:
        The saga's state, or an `ItemState` for the step of an item.

    Raises:
        Defect: ``items`` raised, or doesn't return the item any more.
        Outage: ``items`` raised an `OSError`.
    """
    if not saga.fan_outs:
        return data.data.read()
    name, key = split_instance(step)
    if not key or name not in saga.fan_outs:
        return data.data.read()
    items = _items(saga.fan_outs[name], name, data.before_items[name])
    if key not in items:
        missing = KeyError(
            f"`items` of step {name!r} doesn't return the item {key!r} any more; it "
            "must be pure"
        )
        raise Defect(step, "items", missing)
    return ItemState(data.data.read(), key, items[key])


def _items(group: Each[Any], step: str, data: Encoded[Any]) -> Mapping[str, Any]:
    try:
        items = cast("object", group.items(data.read()))
    except BaseException as error:
        raise trouble_of(step, "items", error) from error
    if not isinstance(items, Mapping):
        wrong = TypeError(
            f"`items` of step {step!r} returned {shown(items)}; expected a mapping of "
            "keys to items"
        )
        raise Defect(step, "items", wrong)
    return cast("Mapping[str, Any]", items)


def _problem_of_key(saga_id: str, step: str, key: object) -> str | None:
    """Return the reason why a key can't be recorded; None if it can be."""
    if not isinstance(key, str) or not key or not key.isprintable():
        return f"the key {shown(key)} of an item of step {step!r} isn't printable text"
    size = longest_key(saga_id, instance_name(step, key))
    if size <= MAXIMUM_KEY_BYTES:
        return None
    return (
        f"with the key {shown(key)} of an item of step {step!r}, idempotency keys "
        f"would have {size} bytes, expected at most {MAXIMUM_KEY_BYTES}; use "
        "shorter keys"
    )
