"""Commands behind HTTP: a lifespan, dependencies, and errors as problem reports.

For Starlette and FastAPI; install it with ``pip install 'eventbraid[web]'``. The
handlers make problem reports (RFC 9457, ``application/problem+json``) of the errors of
commands, stores and sagas.

Example:
    >>> from starlette.applications import Starlette
    >>> from starlette.requests import Request
    >>> from starlette.responses import JSONResponse
    >>> from starlette.routing import Route
    >>> import eventbraid as eb
    >>> from eventbraid import web
    >>> @eb.event("doc.visitor.counted")
    ... class Counted: ...
    >>> class Visitors(eb.Stream[Counted], category="visitors"): ...
    >>> class Count(eb.Command):
    ...     visitors: eb.Declared[Visitors]
    ...
    ...     def decide(self):
    ...         yield self.visitors.write(Counted())
    >>> async def count(request: Request) -> JSONResponse:
    ...     done = await web.executor(request).execute(
    ...         Count(visitors="visitors-today"),
    ...         idempotency_key=web.idempotency_key(request),
    ...     )
    ...     return JSONResponse(dict(done.versions))
    >>> app = Starlette(
    ...     routes=[Route("/visitors", count, methods=["POST"])],
    ...     lifespan=web.lifespan("memory:"),
    ...     exception_handlers=web.problem_handlers(),
    ... )
"""

from __future__ import annotations

from importlib import import_module

try:
    import_module("starlette")
except ModuleNotFoundError as error:
    if error.name != "starlette":
        raise
    raise ModuleNotFoundError(
        "eventbraid.web needs starlette, which is not installed; install it with: "
        "pip install 'eventbraid[web]'",
        name="starlette",
    ) from error

from eventbraid.web._dependencies import (
    causal_metadata,
    coordinator,
    executor,
    idempotency_key,
    optional_idempotency_key,
)
from eventbraid.web._handlers import problem_handlers
from eventbraid.web._lifespan import WebState, lifespan
from eventbraid.web._mapping import problem_of
from eventbraid.web._problem import Problem

__all__ = [
    "Problem",
    "WebState",
    "causal_metadata",
    "coordinator",
    "executor",
    "idempotency_key",
    "lifespan",
    "optional_idempotency_key",
    "problem_handlers",
    "problem_of",
]

for _name in __all__:
    # Tracebacks and the documentation name the public path, which stays the same when
    # the definition moves to another file.
    globals()[_name].__module__ = __name__
