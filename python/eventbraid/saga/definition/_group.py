"""Groups of steps: sequences, and branches that are executed at the same time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, TypeAlias, TypeVar, cast

from eventbraid.errors import InvalidSaga
from eventbraid.saga._text import shown
from eventbraid.saga.definition._each import Each
from eventbraid.saga.definition._step_base import SagaStep
from eventbraid.saga.definition._step_checks import require_synchronous

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

S = TypeVar("S")


@dataclass(frozen=True, slots=True)
class StepSequence(Generic[S]):
    """Nodes that are executed one after the other; built by `sequence`.

    Attributes:
        nodes: The steps and groups, in their order.

    Example:
        >>> import eventbraid as eb
        >>> close = eb.local_step("close", lambda context: context.state.closing)
        >>> [node.name for node in eb.saga.sequence(close).nodes]
        ['close']
    """

    nodes: tuple[SagaNode[S], ...]


@dataclass(frozen=True, slots=True)
class ParallelGroup(Generic[S]):
    """Branches that are executed at the same time; built by `parallel`.

    Attributes:
        branches: The branches, each of them a sequence.

    Example:
        >>> import eventbraid as eb
        >>> lock = eb.local_step("lock", lambda context: context.state.locking)
        >>> close = eb.local_step("close", lambda context: context.state.closing)
        >>> len(eb.saga.parallel(lock, close).branches)
        2
    """

    branches: tuple[StepSequence[S], ...]


@dataclass(frozen=True, slots=True)
class Choice(Generic[S]):
    """One of two sequences, by the saga's state; built by `when`.

    Attributes:
        name: The name by which the records refer to the choice.
        condition: Returns whether ``then`` is executed.
        then: The sequence if the condition is true.
        otherwise: The sequence if it is false.

    Example:
        >>> import eventbraid as eb
        >>> close = eb.local_step("close", lambda context: context.state.closing)
        >>> eb.saga.when("is open", lambda state: state.is_open, then=[close]).name
        'is open'
    """

    name: str
    condition: Callable[[S], bool]
    then: StepSequence[S]
    otherwise: StepSequence[S]


SagaNode: TypeAlias = (
    "SagaStep[S] | ParallelGroup[S] | Choice[S] | Each[S] | StepSequence[S]"
)
"""A part of a saga: a step, or a group of steps."""


def sequence(*nodes: SagaNode[S]) -> StepSequence[S]:
    """Return a sequence, as a branch of a parallel group.

    Args:
        nodes: The steps and groups, in their order.

    Raises:
        InvalidSaga: There are no nodes, or an argument isn't a step or a group.

    Example:
        >>> import eventbraid as eb
        >>> lock = eb.local_step("lock", lambda context: context.state.locking)
        >>> close = eb.local_step("close", lambda context: context.state.closing)
        >>> [node.name for node in eb.saga.sequence(lock, close).nodes]
        ['lock', 'close']
    """
    if not nodes:
        raise InvalidSaga("a sequence has no steps; give it at least one")
    return _sequence(nodes)


def parallel(*branches: SagaNode[S]) -> ParallelGroup[S]:
    """Return a group whose branches are executed at the same time.

    The saga continues when all branches have ended. If a step of a branch fails for
    good, no further step of the group is started. The calls that run already are
    awaited, and then all steps that succeeded or may have had an effect are
    compensated: the branches at the same time, and the steps of each branch one after
    the other, the last one first.

    The branches share the saga's state. Each ``then`` gets the state after the steps
    that succeeded before, in the order in which their successes were recorded.

    Args:
        branches: Steps, or sequences of steps.

    Raises:
        InvalidSaga: There are fewer than two branches.

    Example:
        >>> import eventbraid as eb
        >>> lock = eb.local_step("lock", lambda context: context.state.locking)
        >>> close = eb.local_step("close", lambda context: context.state.closing)
        >>> len(eb.saga.parallel(lock, close).branches)
        2
    """
    if len(branches) <= 1:
        raise InvalidSaga(
            "a parallel group needs at least two branches; a single step needs no group"
        )
    return ParallelGroup(tuple(_as_sequence(branch) for branch in branches))


def when(
    name: str,
    condition: Callable[[S], bool],
    /,
    *,
    then: Sequence[SagaNode[S]] = (),
    otherwise: Sequence[SagaNode[S]] = (),
) -> Choice[S]:
    """Return a choice between two sequences, by the saga's state.

    The choice is made when the saga reaches it, and is recorded. So a later change of
    the state or of the condition has no effect on it.

    Args:
        name: The name of the choice; different from the names of the saga's steps.
        condition: Returns whether ``then`` is executed, from the saga's state. It must
            have no effect and read no clock.
        then: The steps and groups if the condition is true.
        otherwise: The steps and groups if it is false.

    Raises:
        InvalidSaga: The name isn't text, or there are no steps at all.

    Example:
        >>> import eventbraid as eb
        >>> close = eb.local_step("close", lambda context: context.state.closing)
        >>> eb.saga.when("is open", lambda state: state.is_open, then=[close]).name
        'is open'
    """
    text = cast("object", name)
    if not isinstance(text, str) or not text or not text.isprintable():
        raise InvalidSaga(f"the name of a choice is printable text, not {shown(text)}")
    if not then and not otherwise:
        raise InvalidSaga(
            f"choice {name!r} has no steps; give it at least one by then= or otherwise="
        )
    require_synchronous(name, condition=condition)
    return Choice(name, condition, _sequence(tuple(then)), _sequence(tuple(otherwise)))


def nodes_of(nodes: tuple[SagaNode[S], ...]) -> tuple[SagaNode[S], ...]:
    """Return nodes without sequences in sequences, which have the same meaning."""
    return tuple(_without_nesting(nodes))


def steps_of_nodes(nodes: tuple[SagaNode[S], ...]) -> Iterator[SagaStep[S]]:
    """Return all steps: a sequence in its order, a group by its branches."""
    for node in all_nodes(nodes):
        if isinstance(node, Each):
            yield node.step
        elif not isinstance(node, ParallelGroup | Choice):
            yield node


def all_nodes(
    nodes: tuple[SagaNode[S], ...],
) -> Iterator[SagaStep[S] | ParallelGroup[S] | Choice[S] | Each[S]]:
    """Return all nodes, each group before the nodes in it."""
    for node in nodes:
        if isinstance(node, StepSequence):
            yield from all_nodes(node.nodes)
            continue
        yield node
        for branch in branches_of(node):
            yield from all_nodes(branch.nodes)


def branches_of(node: SagaNode[S]) -> tuple[StepSequence[S], ...]:
    """Return the branches of a parallel group, or the two sequences of a choice."""
    match node:
        case ParallelGroup(branches):
            return branches
        case Choice(then=then, otherwise=otherwise):
            return then, otherwise
        case _:
            return ()


def _sequence(nodes: tuple[SagaNode[S], ...]) -> StepSequence[S]:
    for node in cast("tuple[object, ...]", nodes):
        if not isinstance(
            node, SagaStep | ParallelGroup | Choice | Each | StepSequence
        ):
            raise InvalidSaga(
                f"{shown(node)} is not a step; build it with step() or local_step()"
            )
    return StepSequence(tuple(_without_nesting(nodes)))


def _without_nesting(nodes: tuple[SagaNode[S], ...]) -> Iterator[SagaNode[S]]:
    for node in nodes:
        if isinstance(node, StepSequence):
            yield from _without_nesting(node.nodes)
        else:
            yield node


def _as_sequence(branch: SagaNode[S]) -> StepSequence[S]:
    return branch if isinstance(branch, StepSequence) else sequence(branch)
