"""The declaration of a saga: a sequence of named steps over a typed state."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Generic, Literal, TypeVar, cast, get_args

from eventbraid.errors import InvalidArgument, InvalidSaga
from eventbraid.saga._text import shown
from eventbraid.saga.definition._codec import Codec
from eventbraid.saga.definition._default_defects import DEFECTS, check_defects
from eventbraid.saga.definition._graph import (
    PARALLEL,
    WHEN,
    Graph,
    NodeShape,
    graph_hash,
)
from eventbraid.saga.definition._group import (
    Choice,
    ParallelGroup,
    SagaNode,
    StepSequence,
    choices_of_nodes,
    nodes_of,
    steps_of_nodes,
)
from eventbraid.saga.definition._step import LocalStep, Step
from eventbraid.saga.definition._step_base import SagaStep, StepKind
from eventbraid.store._duration import validate_duration

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

S = TypeVar("S")

# Each notice about a saga has the saga's name, and every store must accept the notice.
_MAXIMUM_NAME_BYTES = 255

CompensationOrder = Literal["relaxed", "strict"]
"""Whether a failed compensation holds back the other compensations of its saga."""


class Saga(Generic[S]):
    """A declared sequence of named steps and groups over a state of type ``S``.

    It is validated when it is built. Records refer to steps by their names. A saga
    whose steps change gets a new version.

    Attributes:
        name: The saga's name. It must not change, because records refer to it.
        version: The version of its graph, from 1.
        deadline: The duration after which an unfinished saga is compensated, or None. A
            running call is awaited first. Past the pivot the deadline has no effect.
        defects: The exceptions of actions and compensations that show a bug in the
            program. They block the saga and never compensate it.
        compensation_order: ``"relaxed"``: a compensation that failed for good holds
            back none of the others. ``"strict"``: the others wait for it.
        nodes: The steps and groups in their order.
        steps: All steps: a sequence in its order, a group by its branches.
        conditions: The conditions of its choices, by their names.
        graph: The recorded part of the nodes.
        graph_hash: A hash of the graph, 16 hexadecimal digits.

    Raises:
        InvalidSaga: It has no steps, two steps with the same name, or more than one
            pivot; a compensatable step is after the pivot or has no compensation; or
            the pivot is in a group.

    Example:
        >>> import eventbraid as eb
        >>> from datetime import timedelta
        >>> async def greet(context: eb.StepContext[str]) -> None:
        ...     print("hello", context.state)
        >>> greeting = eb.step("greet", greet, timeout=timedelta(seconds=1))
        >>> saga = eb.Saga("greeting", str, steps=[greeting.without_compensation()])
        >>> [step.name for step in saga.steps]
        ['greet']
    """

    __slots__ = (
        "_paths",
        "_settled_from",
        "by_name",
        "compensation_order",
        "conditions",
        "deadline",
        "defects",
        "graph",
        "graph_hash",
        "name",
        "nodes",
        "state_codec",
        "steps",
        "version",
    )

    def __init__(
        self,
        name: str,
        state: type[S],
        /,
        *,
        steps: Sequence[SagaNode[S]],
        version: int = 1,
        deadline: timedelta | None = None,
        defects: tuple[type[BaseException], ...] = DEFECTS,
        compensation_order: CompensationOrder = "relaxed",
    ) -> None:
        """Build the saga and validate it.

        Args:
            name: The saga's name.
            state: The type of its state: any type that a field of an event may have.
            steps: The steps, and groups of steps, in their order.
            version: The version of its graph, from 1.
            deadline: The maximum duration of a saga before it is compensated.
            defects: The exceptions of actions and compensations that count as defects,
                unless a step has its own. An exception in ``refusals`` of a step is
                never a defect. An exception of the saga's local functions (the commands
                of local steps, ``then``, ``record``, ``otherwise``, ``skip_if``) is
                always a defect, except for three classes: `CommandRejected` and
                `LimitExceeded` fail the step, and after an `OSError` the function is
                called again.
            compensation_order: The steps of a sequence are compensated one after the
                other, the last one first; the branches of a group at the same time. If
                a compensation fails for good or is blocked, ``"relaxed"`` makes the
                other ones before the saga waits for a person, and ``"strict"`` makes
                them only after the decision of the person, or the correction of the
                program.
        """
        deadline = _checked_deadline(name, deadline)
        _check_head(name, version, deadline)
        _check_order_name(name, compensation_order)
        nodes = _checked_nodes(name, steps)
        self.name = name
        self.version = version
        self.deadline = deadline
        self.defects = check_defects(defects)
        self.compensation_order: CompensationOrder = compensation_order
        self.nodes = nodes
        self.steps: tuple[SagaStep[S], ...] = tuple(steps_of_nodes(nodes))
        self.by_name: dict[str, SagaStep[S]] = {node.name: node for node in self.steps}
        self.conditions = {one.name: one.condition for one in choices_of_nodes(nodes)}
        self.graph = _graph(nodes)
        self.graph_hash = graph_hash(name, self.graph)
        self.state_codec: Codec[S] = Codec(state, what=f"the state of saga {name!r}")
        self._settled_from = _settled_from(nodes)
        self._paths = dict(_paths(nodes))

    def __repr__(self) -> str:
        """Return the name, the version and the number of steps."""
        return f"<Saga {self.name!r} version {self.version}, {len(self.steps)} steps>"

    @property
    def is_strict(self) -> bool:
        """Whether a compensation that failed for good holds back the other ones."""
        return self.compensation_order == "strict"

    def is_after(self, step: str, other: str) -> bool:
        """Return whether a step begins only after another one has ended.

        Two steps in different branches of a group are not after each other.
        """
        for i, (one, two) in enumerate(
            zip(self._paths[step], self._paths[other], strict=False)
        ):
            if one != two:
                # The numbers of nodes and of branches alternate.
                return i % 2 == 0 and one > two
        return False

    def is_settled_at(self, position: int) -> bool:
        """Return whether no failure of a remaining step can compensate the saga.

        Args:
            position: The number of settled nodes.
        """
        return position >= self._settled_from


def _graph(nodes: Sequence[SagaNode[S]]) -> Graph:
    return tuple(_shape(node) for node in nodes)


def _shape(node: SagaNode[S]) -> NodeShape:
    if isinstance(node, ParallelGroup):
        return NodeShape(
            "",
            PARALLEL,
            branches=tuple(_graph(branch.nodes) for branch in node.branches),
        )
    if isinstance(node, Choice):
        both = (_graph(node.then.nodes), _graph(node.otherwise.nodes))
        return NodeShape(node.name, WHEN, branches=both)
    step = cast("SagaStep[S]", node)
    return NodeShape(
        step.name,
        step.kind.value,
        isinstance(step, LocalStep),
        step.has_compensation,
        step.otherwise is not None,
    )


def _paths(
    nodes: Sequence[SagaNode[S]], prefix: tuple[int, ...] = ()
) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Return the place of each step: a node's number, a branch's number, and so on."""
    for i, node in enumerate(nodes):
        branches: tuple[StepSequence[S], ...] = ()
        if isinstance(node, ParallelGroup):
            branches = node.branches
        elif isinstance(node, Choice):
            branches = (node.then, node.otherwise)
        if branches:
            for j, branch in enumerate(branches):
                yield from _paths(branch.nodes, (*prefix, i, j))
        else:
            yield cast("SagaStep[S]", node).name, (*prefix, i)


def _settled_from(nodes: Sequence[SagaNode[S]]) -> int:
    """Return the number of nodes up to the last one that can compensate the saga."""
    fatal = [
        i
        for i, node in enumerate(nodes)
        if any(_may_compensate_saga(step) for step in steps_of_nodes((node,)))
    ]
    return fatal[-1] + 1 if fatal else 0


def _may_compensate_saga(node: SagaStep[S]) -> bool:
    if node.kind is StepKind.RETRIABLE:
        return False
    return node.otherwise is None or node.has_compensation


def _check_head(name: str, version: int, deadline: timedelta | None) -> None:
    text = cast("object", name)
    if not isinstance(text, str) or not text or not text.isprintable():
        raise InvalidSaga(f"a saga's name is printable text, but {shown(text)} is not")
    if len(name.encode()) > _MAXIMUM_NAME_BYTES:
        raise InvalidSaga(
            f"a saga's name has at most {_MAXIMUM_NAME_BYTES} bytes, but "
            f"{name[:40]!r}... has {len(name.encode())}; use a shorter name"
        )
    if version < 1:
        raise InvalidSaga(f"saga {name!r}: a version is at least 1, not {version}")
    if deadline is not None and deadline <= timedelta():
        raise InvalidSaga(f"saga {name!r}: the deadline {deadline} is not above 0")


def _checked_deadline(name: str, deadline: timedelta | None) -> timedelta | None:
    """Return the deadline, limited to a duration that can be added to a date."""
    if deadline is None:
        return None
    try:
        return validate_duration("deadline", deadline, minimum=timedelta.min)
    except InvalidArgument as error:
        raise InvalidSaga(f"saga {name!r}: {error}") from error


def _check_order_name(name: str, order: str) -> None:
    if order not in get_args(CompensationOrder):
        raise InvalidSaga(
            f"saga {name!r}: compensation_order is 'relaxed' or 'strict', not {order!r}"
        )


def _checked_nodes(name: str, steps: Sequence[SagaNode[S]]) -> tuple[SagaNode[S], ...]:
    if not steps:
        raise InvalidSaga(f"saga {name!r} has no steps; give it at least one")
    nodes = nodes_of(tuple(steps))
    all_steps = tuple(steps_of_nodes(nodes))
    for step in all_steps:
        _check_step(name, step)
    choices = tuple(choices_of_nodes(nodes))
    _check_names(name, [*(one.name for one in all_steps), *(c.name for c in choices)])
    _check_groups(name, nodes)
    _check_order(name, all_steps)
    return nodes


def _check_step(name: str, node: SagaStep[S]) -> None:
    if not isinstance(node, Step | LocalStep):
        raise InvalidSaga(
            f"saga {name!r}: {node!r} is not a step; build it with step() or "
            "local_step()"
        )
    needs_compensation = node.kind is StepKind.COMPENSATABLE and node.otherwise is None
    if needs_compensation and not (node.has_compensation or node.needs_no_compensation):
        raise InvalidSaga(
            f"saga {name!r}: step {node.name!r} is compensatable but has no "
            "compensation; add .compensated_by(...), or .without_compensation() if "
            "there is nothing to compensate",
            step=node.name,
        )


def _check_groups(name: str, nodes: Sequence[SagaNode[S]]) -> None:
    """Refuse a pivot in a group: the other branches could still fail after it."""
    for node in nodes:
        if not isinstance(node, ParallelGroup | Choice):
            continue
        inner = tuple(steps_of_nodes((node,)))
        fatal = next((step for step in inner if _may_compensate_saga(step)), None)
        for step in inner:
            is_final = step.kind is StepKind.PIVOT or (
                step.kind is StepKind.RETRIABLE and fatal is not None
            )
            if is_final:
                raise InvalidSaga(
                    f"saga {name!r}: step {step.name!r} is {step.kind.value}, "
                    "but is in a group or a choice with steps that may fail after it; "
                    "put it after that",
                    step=step.name,
                )


def _check_names(name: str, names: Sequence[str]) -> None:
    for step in names:
        if names.count(step) > 1:
            raise InvalidSaga(
                f"saga {name!r} has several steps named {step!r}; records refer to "
                "steps by their names, so give each its own",
                step=step,
            )


def _check_order(name: str, steps: Sequence[SagaStep[S]]) -> None:
    """Refuse a step after the pivot whose failure would compensate the saga."""
    settled_by: str | None = None
    for node in steps:
        if settled_by is not None and _may_compensate_saga(node):
            raise InvalidSaga(
                f"saga {name!r}: step {node.name!r} is {node.kind.value} but comes "
                f"after {settled_by!r}, when compensation is impossible; make it "
                "kind=StepKind.RETRIABLE, or put it before",
                step=node.name,
            )
        if node.kind is not StepKind.COMPENSATABLE:
            settled_by = node.name
