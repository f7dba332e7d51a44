"""Refusals and errors as problem reports (RFC 9457), each with its remedy.

After a 503 or 507 a client may send the same request again, with the same key: it takes
effect once, however often it is sent.
"""

from __future__ import annotations

import logging
from http import HTTPStatus
from typing import TYPE_CHECKING

import msgspec
from starlette.exceptions import HTTPException
from starlette.responses import Response

import eventbraid as eb

if TYPE_CHECKING:
    from collections.abc import Mapping

    from starlette.requests import Request
    from starlette.types import ExceptionHandler

_log = logging.getLogger(__name__)

_AGAIN = "send the same request again, with the same Idempotency-Key"


class Problem(Exception):
    """A refusal that the client can resolve.

    Args:
        status: The status code.
        kind: The problem's name, for programs: the last part of its `type`.
        detail: The reason and the remedy, for people.
        retry_after: The seconds after which to try again, if that may help.
        close: Whether the connection must be closed: the rest of the request is still
            to arrive on it, and no code reads that.
    """

    def __init__(
        self,
        status: int,
        kind: str,
        detail: str,
        *,
        retry_after: int | None = None,
        close: bool = False,
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.kind = kind
        self.detail = detail
        self.retry_after = retry_after
        self.close = close

    def response(self, headers: Mapping[str, str] | None = None) -> Response:
        """Build the response that has the report.

        Example:
            >>> Problem(404, "no-such-order", "no order has this id").response().body
            b'{"type":"/problems/no-such-order","title":"Not Found","status":404,...}'
        """
        report = {
            "type": f"/problems/{self.kind}",
            "title": HTTPStatus(self.status).phrase,
            "status": self.status,
            "detail": self.detail,
        }
        further = dict(headers or {})
        if self.retry_after is not None:
            further["Retry-After"] = str(self.retry_after)
        if self.close:
            further["Connection"] = "close"
        return Response(
            msgspec.json.encode(report),
            self.status,
            headers=further,
            media_type="application/problem+json",
        )


def problem_of(error: eb.EventbraidError) -> Problem:
    """Return the problem that a client receives for an error of the store.

    Example:
        >>> problem_of(eb.errors.StorageFull("shop.braid/log/1", "disk full")).status
        507
    """
    match error:
        case eb.errors.IdempotencyMismatch():
            return Problem(
                422,
                "idempotency-key-reused",
                "this Idempotency-Key was used for another order; use a new key for "
                "a new order, and repeat a request without a change",
            )
        case eb.CommandRejected() | eb.InvalidValue():
            return Problem(422, "order-refused", str(error))
        case eb.errors.StorageFull():
            return Problem(
                507, "storage-full", f"nothing was ordered; {_AGAIN}", retry_after=60
            )
        case eb.OutcomeUnknown():
            return Problem(
                503,
                "outcome-unknown",
                f"the order may or may not be recorded; to find out, {_AGAIN}",
                retry_after=1,
            )
        case (
            eb.StoreBusy() | eb.errors.RetriesExhausted() | eb.errors.DeadlineExceeded()
        ):
            return Problem(503, "busy", f"nothing was ordered; {_AGAIN}", retry_after=1)
        case (
            eb.errors.StorePoisoned()
            | eb.errors.StoreUnavailable()
            | eb.errors.StoreClosed()
            | eb.errors.StoreDetached()
        ):
            return Problem(
                503,
                "store-out-of-service",
                f"nothing was ordered; {_AGAIN}",
                retry_after=5,
            )
        case _:
            return _bug()


async def _answer_problem(request: Request, error: Exception) -> Response:
    del request
    assert isinstance(error, Problem)  # noqa: S101
    return error.response()


async def _answer_store_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, eb.EventbraidError)  # noqa: S101
    problem = problem_of(error)
    if problem.status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        _log.error("%s %s", request.method, request.url.path, exc_info=error)
    return problem.response()


async def _answer_http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)  # noqa: S101
    detail = f"{request.method} {request.url.path}: {error.detail}"
    return Problem(error.status_code, "http", detail).response(error.headers)


async def _answer_bug(request: Request, error: Exception) -> Response:
    # The server logs it, with its traceback.
    del request, error
    return _bug().response()


def _bug() -> Problem:
    return Problem(500, "bug", "an internal error; it was logged")


HANDLERS: dict[type[Exception], ExceptionHandler] = {
    Problem: _answer_problem,
    eb.EventbraidError: _answer_store_error,
    HTTPException: _answer_http_error,
    Exception: _answer_bug,
}
"""The handler of each error; for `Starlette(exception_handlers=...)`."""
