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
    """A saga was declared in a way that can't work. Raised when it is built.

    Attributes:
        step: The step that is wrong, if it is one.

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
    """A saga's record that doesn't follow from what was recorded before.

    Attributes:
        saga_id: The saga's id.
        status: The status that the saga has.
        event: The type of the refused record.
        reason: Why it can't follow.

    Example:
        >>> import eventbraid as eb
        >>> eb.errors.InvalidTransition(
        ...     "saga-1", "completed", "StepStarted", "over"
        ... ).status
        'completed'
    """

    def __init__(self, saga_id: str, status: str, event: str, reason: str) -> None:
        """Name the saga, its status and the record that can't follow."""
        self.saga_id = saga_id
        self.status = status
        self.event = event
        self.reason = reason
        super().__init__(
            f"saga {saga_id!r} is {status}, so {event!r} can't be recorded: {reason}"
        )


class SagaNotFound(SagaError):
    """No saga was started under an id.

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
        """Name the id."""
        self.saga_id = saga_id
        super().__init__(
            f"there is no saga {saga_id!r} in this store; check the id, or start it"
        )


class SagaExists(SagaError):
    """The id is taken, by a saga with another input or by another stream.

    Attributes:
        saga_id: The id.
        reason: What stands there.

    Example:
        >>> import eventbraid as eb
        >>> print(eb.errors.SagaExists("saga-1", "it was started with another state"))
        nothing was started: 'saga-1' is taken (it was started with another state); ...
    """

    def __init__(self, saga_id: str, reason: str) -> None:
        """Name the id and what it is taken by."""
        self.saga_id = saga_id
        self.reason = reason
        super().__init__(
            f"nothing was started: {saga_id!r} is taken ({reason}); use another id"
        )


class SagaBlocked(SagaError):
    """This program can't drive a saga that the log holds. Nothing is lost.

    Attributes:
        saga_id: The saga's id.
        saga: The saga's name.
        version: The version of its graph.
        reason: What is missing.

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
        """Name the saga and what this program lacks for it."""
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
        version: The version that stands for both graphs.
        saga_ids: Unfinished sagas with the other graph.
        difference: How the graphs differ, by the names of their steps.

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
        """Name the saga, its unfinished instances, and how the graphs differ."""
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
    """The coordinator isn't running, so the saga can't be driven here.

    What was recorded stays; the next coordinator resumes it.

    Example:
        >>> import eventbraid as eb
        >>> isinstance(eb.errors.CoordinatorClosed(), eb.SagaError)
        True
    """

    def __init__(self, message: str = "") -> None:
        """Build the error, with the remedy."""
        super().__init__(
            message
            or "the saga coordinator isn't running; use it as `async with "
            "SagaCoordinator(...)`, and wait for results inside of the block"
        )
