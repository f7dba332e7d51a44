"""Classifies the exceptions of a step's functions as defects or outages."""

from __future__ import annotations

import traceback
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeAlias, TypeVar

from eventbraid._logging import SAGA
from eventbraid.errors import CommandRejected, EventbraidError, LimitExceeded
from eventbraid.saga._cancellation import ends_task, is_in_a_task
from eventbraid.saga._exception_groups import exceptions_in
from eventbraid.saga._text import described, shortened

if TYPE_CHECKING:
    from collections.abc import Callable

    import msgspec

R = TypeVar("R")

Where: TypeAlias = Literal[
    "action",
    "ask",
    "command",
    "compensation",
    "condition",
    "items",
    "on_timeout",
    "otherwise",
    "record",
    "skip_if",
    "then",
    "until",
]
"""The function of a step's declaration that raised."""

# Less than the maximum length of a text in a record. A longer text would lose its end,
# which is the most useful part of a traceback.
_MAXIMUM_TRACEBACK = 3_900
_MAXIMUM_REASON = 500


@dataclass(frozen=True, slots=True)
class Bug:
    """The outcome of an attempt whose code has a bug.

    Attributes:
        error: The exception that it raised.
    """

    error: BaseException


class Defect(Exception):
    """Raised by an action if a step's code has a bug; the driver then blocks the saga.

    Attributes:
        step: The step's name.
        where: The function that raised.
        error: The exception that it raised.
        answer: The receiver's answer before the exception, as JSON; None without one.
        is_outage: Whether the defect is an outage that has lasted too long: the code
            raised an `OSError` at each call. If so, nothing was recorded, and this
            program calls the code again.
    """

    def __init__(
        self,
        step: str,
        where: Where,
        error: BaseException,
        answer: msgspec.Raw | None = None,
        *,
        is_outage: bool = False,
    ) -> None:
        """Store the step, the function that raised, and the exception."""
        self.step = step
        self.where: Where = where
        self.error = error
        self.answer = answer
        self.is_outage = is_outage
        super().__init__(step, where, error)

    @property
    def description(self) -> str:
        """The description of the exception, shortened."""
        return shortened(described(self.error), _MAXIMUM_REASON)

    @property
    def reason(self) -> str:
        """The description of the defect for people, with the remedy."""
        what = f"{self.where} of step {self.step!r} raised {self.description}; "
        if self.is_outage:
            return (
                f"{what}correct the program, or what the system refuses: the function "
                "is called again at intervals"
            )
        return (
            f"{what}correct the program: a coordinator with the corrected code resumes "
            "the saga at this step"
        )


class CommandDefect(Exception):
    """Raised in place of a store's error that a function of a command raised.

    The error itself would look like an error of the store that has the sagas.

    Attributes:
        error: The error.
    """

    def __init__(self, error: EventbraidError) -> None:
        """Store the error."""
        self.error = error
        super().__init__(error)


class Outage(Exception):
    """Raised by an action if a step's local code raised an `OSError`.

    The system has refused an operation, for example because a disk is full. Nothing was
    recorded for the action. The driver takes the action again after a pause.

    Attributes:
        step: The step's name.
        where: The function that raised.
        error: The exception that it raised.
        answer: The receiver's answer before the exception, as JSON; None without one.
    """

    def __init__(
        self,
        step: str,
        where: Where,
        error: OSError,
        answer: msgspec.Raw | None = None,
    ) -> None:
        """Store the step, the function that raised, and the exception."""
        self.step = step
        self.where: Where = where
        self.error = error
        self.answer = answer
        super().__init__(step, where, error)

    def as_defect(self) -> Defect:
        """Return the outage as a defect, because it has lasted too long."""
        return Defect(self.step, self.where, self.error, self.answer, is_outage=True)


def trouble_of(
    step: str, where: Where, error: BaseException, answer: msgspec.Raw | None = None
) -> Defect | Outage:
    """Classify an exception of a step's local code, but not a rejection.

    Local code has no effects outside of the store. So an error of the operating system
    is an outage, after which the code can be called again. Any other exception is a
    bug.

    Raises:
        BaseException: The exception ends the program or this task, so it isn't an
            exception of the step.
    """
    raise_if_it_ends_the_program(error)
    if isinstance(error, CommandDefect):
        error = error.error
    if isinstance(error, OSError):
        return Outage(step, where, error, answer)
    return Defect(step, where, error, answer)


def call_local(step: str, where: Where, function: Callable[[], R]) -> R:
    """Call a function of a step's local code, and classify its exceptions.

    Raises:
        CommandRejected: The function refused the step.
        LimitExceeded: The function built a command that is too large.
        Defect: The function has a bug.
        Outage: The function raised an `OSError`.
    """
    try:
        return function()
    except (CommandRejected, LimitExceeded):
        raise  # A rejection is the failure of the step.
    except BaseException as error:
        raise trouble_of(step, where, error) from error


def raise_if_it_ends_the_program(error: BaseException) -> None:
    """Raise an exception that ends the program or this task."""
    if isinstance(error, Exception):
        return
    if isinstance(error, GeneratorExit) and not is_in_a_task():
        raise error  # The coroutine is being closed, because its event loop has ended.
    for single in exceptions_in(error):
        if isinstance(single, KeyboardInterrupt | SystemExit) or ends_task(single):
            raise single


def log_outage(saga_id: str, outage: Outage) -> None:
    """Log that a step's local code raised an `OSError`."""
    SAGA.warning(
        "the system refused an operation of %s of step %r of saga %r: %s; "
        "the function is called again",
        outage.where,
        outage.step,
        saga_id,
        described(outage.error),
        exc_info=outage.error,
    )


def is_defect(error: BaseException, defects: tuple[type[BaseException], ...]) -> bool:
    """Return whether an exception, or an exception in a group, is a defect.

    A `StopIteration` can't leave a coroutine: Python converts it to a `RuntimeError`.
    """
    return any(
        isinstance(single, defects)
        or (
            isinstance(single, RuntimeError)
            and isinstance(single.__cause__, StopIteration | StopAsyncIteration)
            and isinstance(single.__cause__, defects)
        )
        for single in exceptions_in(error)
    )


def traceback_of(error: BaseException) -> str:
    """Return the end of an exception's traceback, of bounded length."""
    try:
        lines = traceback.format_exception(error)
    except Exception:  # noqa: BLE001 - the text of an exception comes from foreign code
        lines = [*traceback.format_tb(error.__traceback__), described(error)]
    text = "".join(lines).encode("utf-8", "backslashreplace").decode()
    if len(text) <= _MAXIMUM_TRACEBACK:
        return text
    return f"…{text[1 - _MAXIMUM_TRACEBACK :]}"
