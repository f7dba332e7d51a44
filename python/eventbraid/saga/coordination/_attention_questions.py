"""The open questions whether sagas of other coordinators are blocked there."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Collection

    from eventbraid.saga.coordination._saga_registry import SagaRegistry
    from eventbraid.saga.coordination._wakeup import Wakeup
    from eventbraid.saga.running._run import Run


class AttentionQuestions:
    """The sagas for which the log follower must search the notices.

    A caller waits for each of these sagas here, but another coordinator has the saga's
    shard. Any task may ask whether a saga is blocked there. Only the log follower
    answers, between two pages of the log. If another task answered, the follower could
    read a handover of the shard at the same time. Then an answer from before the
    handover would end the caller's wait, although the new holder drives the saga.

    Args:
        registry: The sagas of this coordinator.
        wakeup: Is notified when a question is added.
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
