"""The declaration of a saga: a sequence of named steps over a typed state."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Generic, Literal, TypeVar, cast, get_args

from eventbraid.errors import InvalidArgument, InvalidSaga, InvalidValue
from eventbraid.saga._text import shown
from eventbraid.saga.definition._codec import Codec, Encoded, UnfitValue
from eventbraid.saga.definition._default_defects import DEFECTS, check_defects
from eventbraid.saga.definition._each import BEFORE_KEY, Each
from eventbraid.saga.definition._graph import (
    EACH,
    PARALLEL,
    WAIT,
    WHEN,
    Graph,
    NodeShape,
    graph_hash,
)
from eventbraid.saga.definition._group import (
    Choice,
    ParallelGroup,
    SagaNode,
    all_nodes,
    branches_of,
    nodes_of,
    steps_of_nodes,
)
from eventbraid.saga.definition._step import LocalStep, Step
from eventbraid.saga.definition._step_base import SagaStep, StepKind
from eventbraid.saga.definition._steps_by_name import StepsByName
from eventbraid.saga.definition._wait import WaitStep
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
        fan_outs: The groups that execute a step for each item, by the step's name.
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
        "_places",
        "_settled_from",
        "by_name",
        "compensation_order",
        "conditions",
        "deadline",
        "defects",
        "fan_outs",
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
        self.fan_outs = {
            one.step.name: one for one in all_nodes(nodes) if isinstance(one, Each)
        }
        self.by_name: dict[str, SagaStep[S]] = StepsByName(self.steps, self.fan_outs)
        self.conditions = {
            one.name: one.condition
            for one in all_nodes(nodes)
            if isinstance(one, Choice)
        }
        self.graph = _graph(nodes)
        self.graph_hash = graph_hash(name, self.graph)
        self.state_codec: Codec[S] = Codec(state, what=f"the state of saga {name!r}")
        self._settled_from = _settled_from(nodes)
        self._places = dict(_places(nodes))

    def __repr__(self) -> str:
        """Return the name, the version and the number of steps."""
        return f"<Saga {self.name!r} version {self.version}, {len(self.steps)} steps>"

    @property
    def is_strict(self) -> bool:
        """Whether a compensation that failed for good holds back the other ones."""
        return self.compensation_order == "strict"

    def places(self, step: str) -> tuple[tuple[tuple[int, ...], int], ...]:
        """Return the place of a step in each sequence that it belongs to.

        Args:
            step: The name of a step.

        Returns:
            The sequences, from that of the saga to the innermost one; each identified
            by the path to it, and with the number of the node that has the step. If two
            steps are in different nodes of a sequence, the step in the later node is
            executed after the other one.
        """
        return self._places[step]

    def declared_names(self, steps: Sequence[str]) -> Sequence[str]:
        """Return the names of steps; for the step of an item, the name of the step."""
        if not self.fan_outs:
            return steps
        declared = self._places
        # A saga may have a thousand items, so no function is called for each of them.
        return [
            step if step in declared else step.partition(BEFORE_KEY)[0]
            for step in steps
        ]

    def keep_state(self, step: str, folded: S) -> Encoded[S]:
        """Wrap the state that a ``then`` returned.

        Args:
            step: The name of the step with the ``then``.
            folded: The returned value.

        Raises:
            UnfitValue: The value is not a state of this saga.
        """
        try:
            return self.state_codec.keep(folded)
        except InvalidValue as error:
            returned = f"{error.value}, returned by `then` of step {step!r},"
            remedy = "return the new state"
            raise UnfitValue(error.type, returned, error.bound, remedy) from error

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
    if isinstance(node, Each):
        return NodeShape(node.step.name, EACH, branches=((_shape(node.step),),))
    if isinstance(node, Choice):
        both = (_graph(node.then.nodes), _graph(node.otherwise.nodes))
        return NodeShape(node.name, WHEN, branches=both)
    step = cast("SagaStep[S]", node)
    if isinstance(step, WaitStep):
        return NodeShape(step.name, WAIT, local=True)
    return NodeShape(
        step.name,
        step.kind.value,
        isinstance(step, LocalStep),
        step.has_compensation,
        step.otherwise is not None,
    )


def _places(
    nodes: Sequence[SagaNode[S]],
    path: tuple[int, ...] = (),
    around: tuple[tuple[tuple[int, ...], int], ...] = (),
) -> Iterator[tuple[str, tuple[tuple[tuple[int, ...], int], ...]]]:
    """Return the places of each step (`Saga.places`)."""
    for i, node in enumerate(nodes):
        places = (*around, (path, i))
        for j, branch in enumerate(branches_of(node)):
            yield from _places(branch.nodes, (*path, i, j), places)
        if isinstance(node, Each):
            yield node.step.name, places
        elif isinstance(node, SagaStep):
            yield node.name, places


def _settled_from(nodes: Sequence[SagaNode[S]]) -> int:
    """Return the number of nodes up to the last one that can compensate the saga.

    A wait before the pivot is such a node even if it never fails: the saga's deadline
    may pass during the wait.
    """
    last, is_settled = 0, False
    for i, node in enumerate(nodes):
        for step in steps_of_nodes((node,)):
            is_open_wait = isinstance(step, WaitStep) and not is_settled
            if is_open_wait or _may_compensate_saga(step):
                last = i + 1
            is_settled |= step.kind is not StepKind.COMPENSATABLE
    return last


def _may_compensate_saga(node: SagaStep[S]) -> bool:
    if isinstance(node, WaitStep):
        return node.may_fail
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
    choices = [one.name for one in all_nodes(nodes) if isinstance(one, Choice)]
    _check_names(name, [*(one.name for one in all_steps), *choices])
    _check_instances(name, nodes, [*(one.name for one in all_steps), *choices])
    _check_groups(name, nodes)
    _check_order(name, all_steps)
    return nodes


def _check_step(name: str, node: SagaStep[S]) -> None:
    if not isinstance(node, Step | LocalStep | WaitStep):
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
        if not isinstance(node, ParallelGroup | Choice | Each):
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


def _check_instances(
    name: str, nodes: tuple[SagaNode[S], ...], names: Sequence[str]
) -> None:
    """Refuse a name that could also be the name of the step of an item."""
    for node in all_nodes(nodes):
        if isinstance(node, Each):
            prefix = f"{node.step.name}{BEFORE_KEY}"
            for other in names:
                if other.startswith(prefix):
                    raise InvalidSaga(
                        f"saga {name!r}: {other!r} looks like the step "
                        f"{node.step.name!r} of an item; use another name",
                        step=other,
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
