"""The unfinished sagas of one coordinator, by what they are doing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from eventbraid.errors import CoordinatorClosed, SagaParked
from eventbraid.saga._progress import Progress, Status

if TYPE_CHECKING:
    from eventbraid.saga._handle import Run

S = TypeVar("S")


@dataclass(frozen=True, slots=True)
class SagaSummary:
    """An unfinished saga, as a coordinator lists it.

    Attributes:
        id: The saga's id.
        saga: The name of its declaration.
        version: The version of its graph.
        status: Where it stands.
        step: The step that is being done or undone, if there is one.
        failure: What is undoing it, or why it is stuck or parked; None if it is well.
        parked: Whether this program can't drive it: it needs code.

    Example:
        >>> import eventbraid as eb
        >>> eb.SagaSummary("saga-1", "ship", 1, eb.Status.RUNNING, "pack", None).step
        'pack'
    """

    id: str
    saga: str
    version: int
    status: Status
    step: str | None
    failure: str | None
    parked: bool = False


class Roster:
    """Which sagas are at work, stuck or parked."""

    __slots__ = ("at_work", "parked", "stuck")

    def __init__(self) -> None:
        """Begin with none."""
        self.at_work: dict[str, Run[Any]] = {}
        self.stuck: dict[str, Run[Any]] = {}
        self.parked: dict[str, tuple[Progress, SagaParked]] = {}

    def find(self, saga_id: str) -> Run[Any] | None:
        """Give the run of a saga that is at work or stuck."""
        return self.at_work.get(saga_id) or self.stuck.get(saga_id)

    def begin(self, run: Run[Any]) -> None:
        """Put a saga to work."""
        self.stuck.pop(run.id, None)
        self.parked.pop(run.id, None)
        self.at_work[run.id] = run

    def leave(self, run: Run[Any]) -> None:
        """Take a saga that has come to rest from work, and tell those who wait."""
        if self.at_work.get(run.id) is run:
            del self.at_work[run.id]
        if run.progress.status is Status.STUCK:
            self.stuck[run.id] = run
        run.rest()

    def park(self, progress: Progress, error: SagaParked) -> None:
        """List a saga that this program can't drive."""
        run = self.at_work.pop(progress.id, None)
        self.parked[progress.id] = progress, error
        if run is not None:
            run.rest(error)

    def close(self) -> None:
        """Tell those who wait that nobody drives their saga any more."""
        for run in self.at_work.values():
            run.rest(CoordinatorClosed())
        self.at_work.clear()

    def summaries(self) -> list[SagaSummary]:
        """List all, those at work first."""
        runs = [*self.at_work.values(), *self.stuck.values()]
        parked = [_parked(progress, error) for progress, error in self.parked.values()]
        return [*(_summary(run.progress) for run in runs), *parked]


def _summary(progress: Progress) -> SagaSummary:
    return SagaSummary(
        progress.id,
        progress.saga,
        progress.version,
        progress.status,
        progress.current,
        progress.trouble,
    )


def _parked(progress: Progress, error: SagaParked) -> SagaSummary:
    return SagaSummary(
        progress.id,
        progress.saga,
        progress.version,
        progress.status,
        progress.current,
        error.reason,
        parked=True,
    )
