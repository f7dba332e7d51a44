"""The data of a saga: the fold of the results of its steps by their ``then``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

from eventbraid.saga._defect_classification import Defect, raise_if_it_ends_the_program
from eventbraid.saga._text import described
from eventbraid.saga.definition._step import LocalStep, external
from eventbraid.saga.machine._events import (
    ItemsCompleted,
    ItemsListed,
    SignalReceived,
    StepSucceeded,
    WaitEnded,
)
from eventbraid.saga.machine._item_rules import fold_items
from eventbraid.saga.machine._state import SagaState
from eventbraid.saga.machine._wait_rules import fold_wait
from eventbraid.saga.running._blocked_error import blocked_error

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    import msgspec

    from eventbraid.command import Executed
    from eventbraid.saga.definition._codec import Encoded
    from eventbraid.saga.definition._saga import Saga
    from eventbraid.saga.definition._step import Step
    from eventbraid.saga.machine._events import SagaEvent
    from eventbraid.saga.machine._progress import Progress

S = TypeVar("S")


def fold_state(
    saga: Saga[S],
    progress: Progress,
    history: Iterable[SagaEvent],
    executed: Mapping[str, Executed],
) -> SagaState[S]:
    """Fold the results of a saga's steps into its data, and return its state.

    Args:
        saga: Its declaration.
        progress: The fold of its stream.
        history: Its events.
        executed: The results of the local steps that have a ``then``, by step name.

    Raises:
        SagaBlocked: The input can't be decoded.
        Defect: A result can't be decoded, or a ``then`` raised.
    """
    try:
        data = saga.state_codec.restore(progress.input)
    except BaseException as error:
        raise_if_it_ends_the_program(error)
        reason = f"the input can't be folded ({described(error)})"
        raise blocked_error(progress, f"{reason}; correct the program") from error
    keys: dict[str, tuple[str, ...]] = {}
    before_items: dict[str, Encoded[S]] = {}
    payloads: list[msgspec.Raw] = []
    for event in history:
        try:
            if isinstance(event, StepSucceeded):
                data = _fold_recorded_result(saga, data, event, executed)
            elif isinstance(event, ItemsListed):
                before_items[event.step], keys[event.step] = data, event.keys
            elif isinstance(event, ItemsCompleted):
                results = progress.results
                data = fold_items(saga, event, keys[event.step], results, data)
            elif isinstance(event, SignalReceived):
                payloads.append(event.payload)
            elif isinstance(event, WaitEnded):
                payload = payloads[event.number - 1] if event.number else None
                data = fold_wait(saga, event, payload, data)
        except BaseException as error:
            raise_if_it_ends_the_program(error)
            raise Defect(getattr(event, "step", ""), "then", error) from error
    return SagaState(progress, data, before_items)


def fold_result(
    saga: Saga[S],
    node: LocalStep[S] | Step[S, Any],
    data: Encoded[S],
    result: Callable[[], Any],
) -> Encoded[S]:
    """Fold the result of a step into the data.

    Args:
        saga: The saga's declaration.
        node: The step.
        data: The data before.
        result: Returns the result, as decoded from its record.

    Raises:
        UnfitValue: ``then`` returned a value that is not a state of this saga.
        Exception: The exception that ``then`` raised.
    """
    if node.then is None:
        return data
    return saga.keep_state(node.name, node.then(data.read(), result()))


def _fold_recorded_result(
    saga: Saga[S],
    data: Encoded[S],
    event: StepSucceeded,
    executed: Mapping[str, Executed],
) -> Encoded[S]:
    node = saga.by_name[event.step]
    if isinstance(node, LocalStep):
        return fold_result(saga, node, data, lambda: executed[event.step])
    step = external(node)
    return fold_result(saga, step, data, lambda: step.result.decode(event.result))
