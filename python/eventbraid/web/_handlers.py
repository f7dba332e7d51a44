"""The handlers that make a problem report of each exception of an endpoint."""

from __future__ import annotations

import logging
from http import HTTPStatus
from importlib import import_module
from typing import TYPE_CHECKING, Any, TypeAlias, cast

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.websockets import WebSocket

import eventbraid as eb
from eventbraid.web._mapping import INTERNAL_ERROR, problem_of
from eventbraid.web._problem import TYPE_PREFIX, Problem, title_of

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence

    # FastAPI's parameter has exactly this type, and a `dict` is invariant.
    Handler: TypeAlias = Callable[[Request, Any], Coroutine[Any, Any, Response]]

_log = logging.getLogger(__name__.rpartition(".")[0])

_Connection: TypeAlias = Request[Any] | WebSocket[Any]

# Close codes of a WebSocket (RFC 6455 and its registry).
_POLICY_VIOLATION, _INTERNAL_ERROR, _TRY_AGAIN_LATER = 1008, 1011, 1013


def problem_handlers(
    *,
    type_prefix: str = TYPE_PREFIX,
    rejections: Mapping[str, int] | None = None,
    show_facts: bool = True,
) -> dict[int | type[Exception], Handler]:
    """Return the handlers of exceptions, for Starlette or FastAPI.

    They report a `Problem`, every `EventbraidError`, the `HTTPException` of the
    framework, and FastAPI's `RequestValidationError`. Any other exception, and an
    `EventbraidError` that shows a bug, is an internal error: the client learns nothing
    about it, and the server logs it. If a WebSocket's endpoint raises, the connection
    is closed.

    The logger ``eventbraid.web`` reports other errors from 500 on at ERROR, an
    `InvalidArgument` at ERROR with its traceback, and refusals at DEBUG. It is silent
    unless the application configures logging.

    Args:
        type_prefix: The beginning of the ``type`` of each report, for example the
            address of a page that describes the problems.
        rejections: The status code by the code of a `CommandRejected`; 409 for codes
            that it doesn't have.
        show_facts: Whether the report of a `CommandRejected` has the facts that the
            rule compared. Leave them out if a client must not see the states that
            commands decide on.

    Raises:
        InvalidArgument: A status of `rejections` isn't that of an error.

    Example:
        >>> from starlette.applications import Starlette
        >>> from eventbraid import web
        >>> app = Starlette(
        ...     exception_handlers=web.problem_handlers(
        ...         rejections={"no_such_account": 404}
        ...     )
        ... )
    """
    answers = _Answers(type_prefix, dict(rejections or {}), show_facts=show_facts)
    handlers: dict[int | type[Exception], object] = {
        Problem: answers.to_problem,
        eb.EventbraidError: answers.to_library_error,
        HTTPException: answers.to_http_exception,
        Exception: answers.to_unexpected_error,
    }
    if invalid := _fastapi_validation_error():
        handlers[invalid] = answers.to_invalid_request
    # They return None for a WebSocket, which the type of `Handler` doesn't allow.
    return cast("dict[int | type[Exception], Handler]", handlers)


class _Answers:
    """The answers to the exceptions of endpoints.

    Each method is a handler: the framework calls it with the connection and the
    exception, and sends the response that it returns.
    """

    def __init__(
        self, type_prefix: str, rejections: Mapping[str, int], *, show_facts: bool
    ) -> None:
        self._type_prefix = type_prefix
        self._rejections = rejections
        self._show_facts = show_facts
        for code in rejections:
            # A wrong status must be found at the start, not at the first rejection.
            self._problem_of(eb.CommandRejected(code))

    async def to_problem(
        self, connection: _Connection, error: Exception
    ) -> Response | None:
        assert isinstance(error, Problem)  # noqa: S101
        return await self._answer(connection, error)

    async def to_library_error(
        self, connection: _Connection, error: Exception
    ) -> Response | None:
        assert isinstance(error, eb.EventbraidError)  # noqa: S101
        problem = self._problem_of(error)
        if problem.kind == INTERNAL_ERROR:
            # As any other bug: the framework calls `to_unexpected_error` and raises the
            # error again, so that the server logs it even if the application doesn't
            # configure the logger of this module.
            raise error
        _log_error(connection, error, problem)
        return await self._answer(connection, problem)

    async def to_http_exception(
        self, connection: _Connection, error: Exception
    ) -> Response | None:
        assert isinstance(error, HTTPException)  # noqa: S101
        if error.status_code < HTTPStatus.BAD_REQUEST:
            # A redirect, for example: it is no problem, and may not have a body.
            return Response(status_code=error.status_code, headers=error.headers)
        # FastAPI's exception may have any JSON as its detail; that of a report is text.
        detail = cast("object", error.detail)
        is_text = isinstance(detail, str)
        problem = Problem(
            error.status_code,
            None,
            str(detail) if is_text else title_of(error.status_code),
            headers=error.headers,
            extensions=None if is_text else {"data": detail},
        )
        return await self._answer(connection, problem)

    async def to_invalid_request(
        self, connection: _Connection, error: Exception
    ) -> Response | None:
        # `RequestValidationError` has this method; FastAPI is optional here.
        errors = cast("Any", error).errors()
        problem = Problem(
            422,
            "invalid-request",
            "the request is invalid; `errors` has the place and the reason of each "
            "error",
            extensions={"errors": list(_places(errors))},
        )
        return await self._answer(connection, problem)

    async def to_unexpected_error(
        self, connection: _Connection, error: Exception
    ) -> Response | None:
        # The framework raises the error again, and the server logs its traceback.
        del error
        return await self._answer(
            connection, Problem(500, INTERNAL_ERROR, "the server failed")
        )

    def _problem_of(self, error: eb.EventbraidError) -> Problem:
        return problem_of(
            error, rejections=self._rejections, show_facts=self._show_facts
        )

    async def _answer(
        self, connection: _Connection, problem: Problem
    ) -> Response | None:
        if isinstance(connection, WebSocket):
            await connection.close(_close_code(problem), problem.kind)
            return None
        return problem.response(type_prefix=self._type_prefix)


def _close_code(problem: Problem) -> int:
    if problem.status < HTTPStatus.INTERNAL_SERVER_ERROR:
        return _POLICY_VIOLATION
    return _INTERNAL_ERROR if problem.retry_after is None else _TRY_AGAIN_LATER


def _log_error(
    connection: _Connection, error: eb.EventbraidError, problem: Problem
) -> None:
    # The path is shown by its repr: it may contain line breaks.
    what = f"{connection.scope.get('method', 'WebSocket')} {connection.scope['path']!r}"
    if problem.kind == "invalid-argument":
        _log.error("%s failed", what, exc_info=error)
    elif problem.status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        _log.error("%s failed: %s: %s", what, type(error).__name__, error)
    else:
        _log.debug("%s refused: %s: %s", what, type(error).__name__, error)


def _fastapi_validation_error() -> type[Exception] | None:
    """Return FastAPI's exception for invalid requests; None without FastAPI."""
    try:
        module = import_module("fastapi.exceptions")
    except ModuleNotFoundError as error:
        if error.name != "fastapi":
            raise
        return None
    return cast("type[Exception]", module.RequestValidationError)


def _places(errors: Sequence[Mapping[str, Any]]) -> Iterable[dict[str, str]]:
    """Describe each error of a request, without its value, which may be a secret."""
    for error in errors:
        source, *path = error["loc"]
        if error["type"] == "json_invalid":
            # The path of this error is an offset in the text.
            yield {"detail": error["msg"], "pointer": "#"}
        elif source == "body":
            yield {"detail": error["msg"], "pointer": _pointer(path)}
        else:
            name = ".".join(map(str, path))
            yield {"detail": error["msg"], "in": str(source), "name": name}


def _pointer(path: Iterable[object]) -> str:
    """Return the JSON pointer (RFC 6901) of a place, as the fragment of a URI."""
    parts = (str(part).replace("~", "~0").replace("/", "~1") for part in path)
    return "".join(("#", *(f"/{part}" for part in parts)))
