"""The questions about sagas of other coordinators: whether they are blocked there."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Collection

    from eventbraid.saga.coordination._saga_registry import SagaRegistry
    from eventbraid.saga.coordination._wakeup import Wakeup
    from eventbraid.saga.running._run import Run


class AttentionQuestions:
    """The sagas for which the log follower must search the notices.

    Any task may ask, but only the log follower answers, between two pages of the log.
    If another task answered, the follower could read a handover of the shard at the
    same time. The answer from before the handover would then end a caller's wait,
    although the new holder drives the saga.

    Args:
        registry: The sagas of this coordinator.
        wakeup: Is notified of a question.
    """

    __slots__ = ("_asked", "_registry", "_wakeup")

    def __init__(self, registry: SagaRegistry, wakeup: Wakeup) -> None:
        """Begin without questions."""
        self._registry = registry
        self._wakeup = wakeup
        self._asked: list[Run[Any]] = []

    def ask(self, run: Run[Any]) -> None:
        """Ask about a saga, unless it is driven here."""
        if self._registry.is_elsewhere(run):
            self._asked.append(run)
            self._wakeup.notify()

    def take(self) -> Collection[Run[Any]]:
        """Return the runs of all questions since the last call."""
        asked, self._asked = dict.fromkeys(self._asked), []
        return asked.keys()
