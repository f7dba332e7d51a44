"""Steps that wait: for a time, or for signals from outside of the saga."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Generic, TypeVar, cast, overload

from eventbraid.errors import InvalidSaga
from eventbraid.saga._text import shown
from eventbraid.saga.definition._attempt_rules import STEP_SCHEDULE, attempt_rules
from eventbraid.saga.definition._codec import Codec
from eventbraid.saga.definition._step_base import SagaStep, StepKind
from eventbraid.saga.definition._step_checks import (
    require_name,
    require_positive,
    require_synchronous,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from eventbraid.saga.definition._attempt_rules import AttemptRules

S = TypeVar("S")
P = TypeVar("P")

_NO_PAYLOAD = type(None)
_RULES = attempt_rules(None, STEP_SCHEDULE)


class Signal(Generic[P]):
    """A message that a saga can wait for, with a payload of type ``P``.

    A signal is recorded in the stream of the saga that it is sent to. A saga that
    doesn't wait for it yet keeps it until it does.

    Args:
        name: The name of the signal: 1 to 80 bytes, and never changed, because records
            refer to it.
        payload: The type of its payload: any type that a field of an event may have; by
            default there is no payload.

    Raises:
        InvalidSaga: The name is out of bounds, or the type can't be recorded.

    Example:
        >>> import eventbraid as eb
        >>> eb.saga.Signal("confirmed", int)
        <Signal 'confirmed'>
    """

    __slots__ = ("codec", "name")

    @overload
    def __init__(self: Signal[None], name: str, /) -> None: ...
    @overload
    def __init__(self, name: str, payload: type[P], /) -> None: ...
    def __init__(self, name: str, payload: Any = _NO_PAYLOAD, /) -> None:
        """Declare the signal; several sagas may wait for it."""
        require_name(name)
        self.name = name
        self.codec: Codec[P] = Codec(payload, what=f"the payload of signal {name!r}")

    def __repr__(self) -> str:
        """Return the name."""
        return f"<Signal {self.name!r}>"

    def then(self, fold: Callable[[S, P], S], /) -> SignalCase[S]:
        """Return the signal with the function that folds its payload into the state.

        Args:
            fold: Returns the saga's new state from its state and the payload. It must
                be pure, because it is called again at each resume.

        Raises:
            InvalidSaga: The function is asynchronous.
        """
        require_synchronous(self.name, then=fold)
        return SignalCase(self, fold)


@dataclass(frozen=True, slots=True)
class SignalCase(Generic[S]):
    """A signal that ends a wait; built by `Signal.then`.

    Attributes:
        signal: The signal.
        then: Returns the new state from the state and the payload; None: the state
            stays as it is.

    Example:
        >>> import eventbraid as eb
        >>> confirmed = eb.saga.Signal("confirmed", int)
        >>> confirmed.then(lambda state, count: state + count).signal.name
        'confirmed'
    """

    signal: Signal[Any]
    then: Callable[[S, Any], S] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class WaitStep(SagaStep[S]):
    """A step that waits; built by `wait` and `sleep`.

    Attributes:
        cases: The signals that end the wait, by their names.
        until: Returns the time at which the wait ends, from the saga's state.
        timeout: The maximum duration of the wait, from its start.
        continues: Whether the saga continues when the time has come; otherwise, the
            step then fails.
        on_timeout: Returns the new state when the time has come.

    Example:
        >>> import eventbraid as eb
        >>> from datetime import timedelta
        >>> eb.saga.sleep("cool down", timedelta(days=1)).name
        'cool down'
    """

    cases: dict[str, SignalCase[S]]
    until: Callable[[S], datetime] | None
    timeout: timedelta | None
    continues: bool
    on_timeout: Callable[[S], S] | None

    @property
    def has_compensation(self) -> bool:
        """Whether the step has a compensation, which a wait never has."""
        return False

    @property
    def compensation_rules(self) -> AttemptRules:
        """The rules for the attempts to compensate the step, which don't exist."""
        return self.attempt_rules

    @property
    def may_fail(self) -> bool:
        """Whether the step fails when its time has come."""
        return self.timeout is not None and not self.continues


@overload
def wait(
    signal: Signal[P],
    /,
    *,
    timeout: timedelta | None = ...,
    name: str | None = ...,
    then: Callable[[S, P], S],
    on_timeout: Callable[[S], S] | None = ...,
    skip_if: Callable[[S], str | bool | None] | None = ...,
) -> WaitStep[S]: ...


@overload
def wait(
    *signals: Signal[Any] | SignalCase[S],
    timeout: timedelta | None = ...,
    name: str | None = ...,
    on_timeout: Callable[[S], S] | None = ...,
    skip_if: Callable[[S], str | bool | None] | None = ...,
) -> WaitStep[S]: ...


def wait(
    *signals: Signal[Any] | SignalCase[S],
    timeout: timedelta | None = None,
    name: str | None = None,
    then: Callable[[S, Any], S] | None = None,
    on_timeout: Callable[[S], S] | None = None,
    skip_if: Callable[[S], str | bool | None] | None = None,
) -> WaitStep[S]:
    """Declare a step that waits for the first of some signals.

    While a saga waits, it counts for no limit of concurrency and records nothing, and
    no process needs to run. A signal that was sent before is used at once; of several,
    the one that was sent first.

    Args:
        signals: The signals, as they are or with a function (`Signal.then`).
        timeout: The maximum duration of the wait. Without ``on_timeout``, the step then
            fails, and the saga is compensated. By default the wait has no end.
        name: The step's name; by default ``wait for <signal> or <signal>``.
        then: Returns the new state from the state and the payload, if there is one
            signal. It must be pure, because it is called again at each resume.
        on_timeout: Returns the new state when the time has come; the saga then
            continues. It must be pure, too.
        skip_if: Returns the reason why the wait isn't needed, or just True.

    Raises:
        InvalidSaga: There are no signals, two have the same name, the timeout isn't
            above 0, or a function is asynchronous.

    Example:
        >>> import eventbraid as eb
        >>> from datetime import timedelta
        >>> confirmed = eb.saga.Signal("confirmed")
        >>> eb.saga.wait(confirmed, timeout=timedelta(days=1)).name
        'wait for confirmed'
    """
    if not signals:
        raise InvalidSaga("a wait has no signals; give it at least one, or use sleep()")
    has_cases = any(isinstance(one, SignalCase) for one in signals)
    if then is not None and (has_cases or len(signals) > 1):
        raise InvalidSaga(
            "a wait for several signals has one `then`; give each signal its own by "
            "signal.then(...)"
        )
    cases = {case.signal.name: case for case in _cases(signals, then)}
    name = f"wait for {' or '.join(cases)}" if name is None else name
    require_name(name)
    if len(cases) < len(signals):
        raise InvalidSaga(f"step {name!r} waits for two signals of one name", step=name)
    if timeout is None and on_timeout is not None:
        raise InvalidSaga(
            f"step {name!r} has on_timeout=, but no timeout=; give it one", step=name
        )
    if timeout is not None:
        timeout = require_positive(timeout, name)
    require_synchronous(name, then=then, on_timeout=on_timeout, skip_if=skip_if)
    return WaitStep(
        name=name,
        kind=StepKind.COMPENSATABLE,
        attempt_rules=_RULES,
        skip_if=skip_if,
        otherwise=None,
        needs_no_compensation=True,
        cases=cases,
        until=None,
        timeout=timeout,
        continues=on_timeout is not None,
        on_timeout=on_timeout,
    )


def sleep(
    name: str,
    until: timedelta | Callable[[S], datetime],
    /,
    *,
    skip_if: Callable[[S], str | bool | None] | None = None,
) -> WaitStep[S]:
    """Declare a step that waits for a duration, or until a time of the saga's state.

    Args:
        name: The step's name: 1 to 80 bytes, unique in its saga, and never changed.
        until: The duration, or a function that returns a time with a time zone from the
            saga's state. A time that has passed ends the wait at once.
        skip_if: Returns the reason why the wait isn't needed, or just True.

    Raises:
        InvalidSaga: The name is out of bounds, the duration isn't above 0, or a
            function is asynchronous.

    Example:
        >>> import eventbraid as eb
        >>> departure = eb.saga.sleep("until departure", lambda trip: trip.departs)
        >>> departure.name
        'until departure'
    """
    require_name(name)
    timeout = require_positive(until, name) if isinstance(until, timedelta) else None
    at = None if isinstance(until, timedelta) else until
    if at is not None and not callable(cast("object", at)):
        raise InvalidSaga(
            f"step {name!r} sleeps until {shown(until)}; give a timedelta, or a "
            "function that returns the time",
            step=name,
        )
    require_synchronous(name, until=at, skip_if=skip_if)
    return WaitStep(
        name=name,
        kind=StepKind.COMPENSATABLE,
        attempt_rules=_RULES,
        skip_if=skip_if,
        otherwise=None,
        needs_no_compensation=True,
        cases={},
        until=at,
        timeout=timeout,
        continues=True,
        on_timeout=None,
    )


def _cases(
    signals: tuple[Signal[Any] | SignalCase[S], ...],
    then: Callable[[S, Any], S] | None,
) -> list[SignalCase[S]]:
    cases: list[SignalCase[S]] = []
    for one in signals:
        found = cast("object", one)
        if isinstance(found, SignalCase):
            cases.append(cast("SignalCase[S]", found))
        elif isinstance(found, Signal):
            cases.append(SignalCase(cast("Signal[Any]", one), then))
        else:
            raise InvalidSaga(
                f"{shown(found)} is not a signal; declare it with Signal(name, type)"
            )
    return cases
