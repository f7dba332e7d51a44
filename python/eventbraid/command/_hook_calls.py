"""Calls the hooks of an executor, and contains the exceptions that they raise."""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections.abc import Iterable
from typing import TYPE_CHECKING, Literal, TypeAlias, cast

from eventbraid._logging import COMMAND
from eventbraid.command._hooks import ExecutionHooks
from eventbraid.domain._invalid_value import shown, shown_argument
from eventbraid.errors import InvalidArgument

if TYPE_CHECKING:
    from eventbraid.command._hooks import ExecutionStart

Method: TypeAlias = Literal[
    "execution_started", "attempt_started", "attempt_ended", "execution_ended"
]

_CONTAINED = (Exception, asyncio.CancelledError)
"""The exceptions of a hook that have no effect on the execution.

A cancellation of the task is raised where the task waits, and a method of a hook
doesn't wait. So a `CancelledError` is the method's own, for example from the result of
a future that was cancelled, and must not cancel the command.
"""

_REMEDY = "derive the class of the hook from eventbraid.command.ExecutionHooks"


class HookCalls:
    """The hooks of one executor.

    Attributes:
        hooks: The hooks, in their order.
    """

    __slots__ = ("_logged", "hooks")

    def __init__(self, hooks: Iterable[ExecutionHooks]) -> None:
        """Validate the hooks.

        Raises:
            InvalidArgument: One of them isn't a hook.
        """
        self.hooks = _checked_hooks(hooks)
        # The methods whose failure was logged as an error, by their names. Several
        # threads may fail at once: `setdefault` is atomic, so only one of them logs.
        self._logged: dict[str, object] = {}

    def started(
        self, execution: ExecutionStart, observers: list[ExecutionHooks]
    ) -> None:
        """Report the start of an execution.

        Args:
            execution: The execution.
            observers: The list to which the objects are added that receive its further
                facts.
        """
        for hook in self.hooks:
            # If the hook is interrupted (Ctrl-C), its start may have been counted, so
            # it must get the end.
            observers.append(hook)
            try:
                observer: object = hook.execution_started(execution)
            except _CONTAINED:
                self._contain(hook, "execution_started")
                continue
            if observer is None:
                continue
            if type(observer) is ExecutionHooks:
                observers.pop()
            elif isinstance(observer, ExecutionHooks):  # pyright: ignore[reportUnnecessaryIsInstance]
                observers[-1] = observer
            else:
                self._refuse(hook, "execution_started", observer)

    def report(
        self,
        observers: Iterable[ExecutionHooks],
        method: Method,
        fact: object,
    ) -> None:
        """Call a method of each observer with a fact.

        Args:
            observers: The observers of the execution.
            method: The name of the method.
            fact: The fact.

        Raises:
            KeyboardInterrupt: It interrupted an observer. The others were called.
            SystemExit: The same.
        """
        interruption: BaseException | None = None
        for observer in observers:
            try:
                result: object = getattr(observer, method)(fact)
            except _CONTAINED:
                self._contain(observer, method)
            except BaseException as error:  # noqa: BLE001 - raised below
                interruption = error
            else:
                if result is not None and inspect.iscoroutine(result):
                    self._refuse(observer, method, result)
        if interruption is not None:
            raise interruption

    def _contain(self, hook: ExecutionHooks, method: Method) -> None:
        """Log the exception that a method has raised."""
        self._log(
            hook,
            method,
            "raised an exception, which has no effect on the command, but the metrics "
            "and traces may lack this execution: correct the method",
            is_exception=True,
        )

    def _refuse(self, hook: ExecutionHooks, method: Method, result: object) -> None:
        if inspect.iscoroutine(result):
            # Without this, Python warns that the coroutine was never awaited.
            result.close()
            problem = "is asynchronous, and was not executed: define it with `def`"
        else:
            problem = (
                f"returned {shown(result)}: return an instance of ExecutionHooks, or "
                "None"
            )
        self._log(hook, method, problem, is_exception=False)

    def _log(
        self, hook: ExecutionHooks, method: Method, problem: str, *, is_exception: bool
    ) -> None:
        kind = type(hook)
        name = f"{kind.__module__}.{kind.__qualname__}.{method}"
        this = object()
        is_first = self._logged.setdefault(name, this) is this
        COMMAND.log(
            logging.ERROR if is_first else logging.DEBUG,
            "the hook %s %s; further failures of this method are logged at DEBUG",
            name,
            problem,
            exc_info=is_exception,
        )


def _checked_hooks(hooks: object) -> tuple[ExecutionHooks, ...]:
    if isinstance(hooks, ExecutionHooks):
        raise InvalidArgument(
            "hooks", shown_argument(hooks), "give a list: hooks=[...]"
        )
    if name := _name_of_class(hooks):
        reason = f"give a list with an instance: hooks=[{name}()]"
        raise InvalidArgument("hooks", name, reason)
    if not isinstance(hooks, Iterable):
        raise InvalidArgument(
            "hooks", shown_argument(hooks), f"give a list of hooks; {_REMEDY}"
        )
    found: list[ExecutionHooks] = []
    for hook in cast("Iterable[object]", hooks):
        if name := _name_of_class(hook):
            raise InvalidArgument("hooks", name, f"give an instance: {name}()")
        if not isinstance(hook, ExecutionHooks):
            raise InvalidArgument("hooks", shown_argument(hook), _REMEDY)
        found.append(hook)
    return tuple(found)


def _name_of_class(thing: object) -> str | None:
    """Return the name of a class of hooks; None for anything else."""
    if isinstance(thing, type) and issubclass(thing, ExecutionHooks):
        return thing.__name__
    return None
