"""The errors of sagas."""

from __future__ import annotations

from typing import TYPE_CHECKING

from eventbraid.errors._base import EventbraidError

if TYPE_CHECKING:
    from collections.abc import Iterable


class SagaError(EventbraidError):
    """The base of the errors of sagas.

    Example:
        >>> import eventbraid as eb
        >>> with eb.open("memory:") as store:
        ...     try:
        ...         eb.saga.read_timeline(store, "saga-1")
        ...     except eb.SagaError as error:
        ...         print(type(error).__name__)
        SagaNotFound
    """


class InvalidSaga(SagaError, ValueError):
    """The declaration of a saga or a step is invalid. Raised at the declaration.

    Attributes:
        step: The name of the invalid step; None if the saga itself is invalid.

    Example:
        >>> import eventbraid as eb
        >>> try:
        ...     eb.Saga("empty", int, steps=[])
        ... except eb.errors.InvalidSaga as error:
        ...     print(error)
        saga 'empty' has no steps; give it at least one
    """

    def __init__(self, message: str, *, step: str | None = None) -> None:
        """Build the error from the reason and the remedy."""
        self.step = step
        super().__init__(message)


class InvalidTransition(SagaError):
    """A record contradicts the records that precede it in the stream of its saga.

    Attributes:
        saga_id: The saga's id.
        status: The status of the saga.
        event: The type of the record.
        reason: The contradiction.

    Example:
        >>> import eventbraid as eb
        >>> eb.errors.InvalidTransition(
        ...     "saga-1", "completed", "StepStarted", "the saga has ended"
        ... ).status
        'completed'
    """

    def __init__(self, saga_id: str, status: str, event: str, reason: str) -> None:
        """Build the error from the saga, its status, the record and the reason."""
        self.saga_id = saga_id
        self.status = status
        self.event = event
        self.reason = reason
        super().__init__(
            f"saga {saga_id!r} is {status}, so {event!r} can't be recorded: {reason}"
        )


class SagaNotFound(SagaError):
    """The store has no saga with the id.

    Attributes:
        saga_id: The id.

    Example:
        >>> import eventbraid as eb
        >>> with eb.open("memory:") as store:
        ...     try:
        ...         eb.saga.read_timeline(store, "saga-1")
        ...     except eb.errors.SagaNotFound as error:
        ...         print(error.saga_id)
        saga-1
    """

    def __init__(self, saga_id: str) -> None:
        """Build the error from the id."""
        self.saga_id = saga_id
        super().__init__(
            f"there is no saga {saga_id!r} in this store; check the id, or start it"
        )


class SagaExists(SagaError):
    """The id belongs to a saga with another input, or to another stream.

    Attributes:
        saga_id: The id.
        reason: The use of the id.

    Example:
        >>> import eventbraid as eb
        >>> print(eb.errors.SagaExists("saga-1", "it was started with another state"))
        nothing was started: 'saga-1' is taken (it was started with another state); ...
    """

    def __init__(self, saga_id: str, reason: str) -> None:
        """Build the error from the id and its use."""
        self.saga_id = saga_id
        self.reason = reason
        super().__init__(
            f"nothing was started: {saga_id!r} is taken ({reason}); use another id"
        )


class SagaBlocked(SagaError):
    """This program can't drive a saga of the store. No record is lost.

    Attributes:
        saga_id: The saga's id.
        saga: The saga's name.
        version: The version of its declaration.
        reason: The obstacle, and the remedy.

    Example:
        >>> import eventbraid as eb
        >>> print(
        ...     eb.errors.SagaBlocked(
        ...         "saga-1", "ship", 2, "needs_code: give its declaration"
        ...     )
        ... )
        saga 'saga-1' ('ship' version 2) is blocked: needs_code: give its declaration
    """

    def __init__(self, saga_id: str, saga: str, version: int, reason: str) -> None:
        """Build the error from the saga and the obstacle."""
        self.saga_id = saga_id
        self.saga = saga
        self.version = version
        self.reason = reason
        super().__init__(
            f"saga {saga_id!r} ({saga!r} version {version}) is blocked: {reason}"
        )


class GraphMismatch(SagaError):
    """Unfinished sagas were started with other steps under the same version.

    Attributes:
        saga: The saga's name.
        version: The version, which is the same for both graphs.
        saga_ids: The ids of the unfinished sagas with the other graph.
        difference: The differences of the graphs, by the names of their steps.

    Example:
        >>> import eventbraid as eb
        >>> eb.errors.GraphMismatch(
        ...     "ship", 1, ["saga-1"], ["removed 'pack'"]
        ... ).difference
        ("removed 'pack'",)
    """

    def __init__(
        self,
        saga: str,
        version: int,
        saga_ids: Iterable[str],
        difference: Iterable[str],
    ) -> None:
        """Build the error from the saga, its unfinished instances and differences."""
        self.saga = saga
        self.version = version
        self.saga_ids = tuple(saga_ids)
        self.difference = tuple(difference)
        super().__init__(
            f"{len(self.saga_ids)} unfinished sagas of {saga!r} version {version} were "
            f"started with other steps (first: {self.saga_ids[0]!r}): "
            f"{'; '.join(self.difference)}; give the new graph a new version, or "
            "finish them with the old program"
        )


class CoordinatorClosed(SagaError):
    """The coordinator isn't running, so it can't drive the saga.

    No record is lost: the next coordinator resumes the saga.

    Example:
        >>> import eventbraid as eb
        >>> isinstance(eb.errors.CoordinatorClosed(), eb.SagaError)
        True
    """

    def __init__(self, message: str = "") -> None:
        """Build the error with its default text, or with a text of its own."""
        super().__init__(
            message
            or "the saga coordinator isn't running; use it as `async with "
            "SagaCoordinator(...)`, and wait for results inside of the block"
        )
