"""The problem that a client receives for an error of Eventbraid.

A report has what the client can act on. It doesn't have what belongs to the operator:
paths, process ids, streams and versions, and the text of unexpected errors.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import eventbraid as eb
from eventbraid.web._problem import Problem

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

INTERNAL_ERROR = "internal-error"

_AGAIN = (
    "nothing was written; send the same request again, with the same Idempotency-Key "
    "if it has one"
)


class _Row(NamedTuple):
    status: int
    kind: str
    detail: str
    retry_after: int | None = None


# The nearest base of an error that has a row decides, so an error that is added to the
# library is an internal error until it gets a row.
_ROWS: dict[type[eb.EventbraidError], _Row] = {
    eb.EventbraidError: _Row(
        500,
        INTERNAL_ERROR,
        "the server failed; its operator can find the error in logs",
    ),
    # Plain arguments only: the log has the text, which may describe the program.
    eb.errors.InvalidArgument: _Row(
        422, "invalid-argument", "the request contains a value that can't be used"
    ),
    eb.errors.InvalidEventType: _Row(
        500,
        INTERNAL_ERROR,
        "the server failed; its operator can find the error in logs",
    ),
    eb.errors.LimitExceeded: _Row(
        413,
        "too-large",
        "the request exceeds a limit of the store; nothing was written; divide it "
        "among several requests",
    ),
    eb.VersionConflict: _Row(
        409,
        "version-conflict",
        "the resource was changed meanwhile; nothing was written; read it again and "
        "decide anew",
    ),
    eb.errors.IdempotencyMismatch: _Row(
        422,
        "idempotency-key-reused",
        "this Idempotency-Key was used for another request; use a new key for a new "
        "request, and repeat a request without a change",
    ),
    eb.errors.StreamDeleted: _Row(410, "deleted", "the resource was deleted"),
    eb.errors.RetriesExhausted: _Row(
        503, "busy", f"too many requests change the same data; {_AGAIN}", 1
    ),
    eb.errors.DeadlineExceeded: _Row(
        504, "deadline-exceeded", f"the request took too long; {_AGAIN}", 1
    ),
    eb.StoreBusy: _Row(503, "busy", f"the store is in use; {_AGAIN}", 1),
    eb.LeaseHeld: _Row(503, "busy", f"another process does this work; {_AGAIN}", 1),
    eb.errors.LeaseLost: _Row(
        503, "busy", f"another process does this work; {_AGAIN}", 1
    ),
    eb.errors.StorageFull: _Row(
        507, "storage-full", f"the store has no space left; {_AGAIN}", 60
    ),
    eb.errors.StoreUnusable: _Row(
        503, "store-out-of-service", f"the store is out of service; {_AGAIN}", 5
    ),
    eb.errors.SagaNotFound: _Row(404, "saga-not-found", "no saga has this id"),
    eb.errors.SagaExists: _Row(
        409,
        "saga-exists",
        "another saga has this id; nothing was started; use another id",
    ),
    eb.errors.SagaBlocked: _Row(
        503,
        "saga-blocked",
        "the saga is recorded, but can't continue until an operator has removed the "
        "obstacle; nothing is lost",
    ),
    eb.errors.CoordinatorClosed: _Row(
        503,
        "store-out-of-service",
        "the server is shutting down; what was started is recorded and will be resumed",
        5,
    ),
}


def problem_of(
    error: eb.EventbraidError,
    *,
    rejections: Mapping[str, int] | None = None,
    show_facts: bool = True,
) -> Problem:
    """Return the problem that a client receives for an error.

    Args:
        error: The error.
        rejections: The status code by the code of a `CommandRejected`; 409 for codes
            that it doesn't have.
        show_facts: Whether the report of a `CommandRejected` has the facts that the
            rule compared.

    Example:
        >>> import eventbraid as eb
        >>> from eventbraid import web
        >>> web.problem_of(
        ...     eb.errors.StorageFull("shop.braid/log/1", "disk full")
        ... ).status
        507
        >>> rejection = eb.CommandRejected("no_such_account")
        >>> web.problem_of(rejection, rejections={"no_such_account": 404}).status
        404
    """
    if isinstance(error, eb.CommandRejected):
        return _rejection(error, rejections or {}, show_facts=show_facts)
    for kind in type(error).__mro__:
        if build := _BUILDERS.get(kind):
            return build(error)
        if row := _ROWS.get(kind):
            return Problem(
                row.status, row.kind, row.detail, retry_after=row.retry_after
            )
    raise TypeError(f"{type(error).__qualname__} isn't an EventbraidError")


def _rejection(
    error: eb.CommandRejected, rejections: Mapping[str, int], *, show_facts: bool
) -> Problem:
    # The default text of a rejection contains its facts.
    is_default = error.message == str(eb.CommandRejected(error.code, facts=error.facts))
    shown: dict[str, object] = {"code": error.code}
    if show_facts:
        shown["facts"] = error.facts
    return Problem(
        rejections.get(error.code, 409),
        "command-rejected",
        error.code if is_default and not show_facts else error.message,
        extensions=shown,
    )


def _invalid_value(error: eb.EventbraidError) -> Problem:
    assert isinstance(error, eb.InvalidValue)  # noqa: S101
    # Without the value: if `decide` calculated it, it may contain a state that the
    # client must not see. The remedy is for the programmer.
    return Problem(
        422, "invalid-value", f"a value is not a valid {error.type}: {error.bound}"
    )


def _invalid_stream_id(error: eb.EventbraidError) -> Problem:
    assert isinstance(error, eb.errors.InvalidStreamId)  # noqa: S101
    return Problem(422, "invalid-id", f"an id is invalid: {error.reason}")


def _outcome_unknown(error: eb.EventbraidError) -> Problem:
    assert isinstance(error, eb.OutcomeUnknown)  # noqa: S101
    has_key = error.idempotency_key is not None
    remedy = (
        "to find out, send the same request again, with the same Idempotency-Key"
        if has_key
        else "find out before you send it again: without an Idempotency-Key, it could "
        "take effect twice"
    )
    return Problem(
        503,
        "outcome-unknown",
        f"the request may or may not have taken effect; {remedy}",
        # A client that obeys this header by itself would repeat the request.
        retry_after=1 if has_key else None,
    )


_BUILDERS: dict[type, Callable[[eb.EventbraidError], Problem]] = {
    eb.InvalidValue: _invalid_value,
    eb.errors.InvalidStreamId: _invalid_stream_id,
    eb.OutcomeUnknown: _outcome_unknown,
}
