"""The data of a saga: the fold of the results of its steps by their ``then``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

from eventbraid.errors import InvalidValue
from eventbraid.saga._defect_classification import Defect, raise_if_it_ends_the_program
from eventbraid.saga._text import described
from eventbraid.saga.definition._codec import UnfitValue
from eventbraid.saga.definition._step import LocalStep, external
from eventbraid.saga.machine._events import StepSucceeded
from eventbraid.saga.running._blocked_error import blocked_error

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from eventbraid.command import Executed
    from eventbraid.saga.definition._codec import Encoded
    from eventbraid.saga.definition._saga import Saga
    from eventbraid.saga.definition._step import Step
    from eventbraid.saga.machine._events import SagaEvent
    from eventbraid.saga.machine._progress import Progress

S = TypeVar("S")


def fold_data(
    saga: Saga[S],
    progress: Progress,
    history: Iterable[SagaEvent],
    executed: Mapping[str, Executed],
) -> Encoded[S]:
    """Fold the results of a saga's steps into its data.

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
    for event in history:
        if isinstance(event, StepSucceeded):
            try:
                data = _fold_recorded_result(saga, data, event, executed)
            except BaseException as error:
                raise_if_it_ends_the_program(error)
                raise Defect(event.step, "then", error) from error
    return data


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
    folded: S = node.then(data.read(), result())
    try:
        return saga.state_codec.keep(folded)
    except InvalidValue as error:
        returned = f"{error.value}, returned by `then` of step {node.name!r},"
        remedy = "return the new state"
        raise UnfitValue(error.type, returned, error.bound, remedy) from error


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
