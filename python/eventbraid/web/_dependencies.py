"""What an endpoint needs of its request: the executor, and facts from headers.

Each function takes a connection and can be called in an endpoint. FastAPI can call it,
too: ``Depends(web.executor)``.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, cast
from uuid import uuid4

from starlette.requests import HTTPConnection

# Not only for type checkers: FastAPI evaluates the annotations of dependencies.
import eventbraid as eb  # noqa: TC001
from eventbraid.web._problem import Problem

if TYPE_CHECKING:
    from typing import TypeAlias

    from starlette.datastructures import Headers

    # Connections with any type of state.
    Connection: TypeAlias = HTTPConnection[Any]
else:
    # FastAPI recognises the class only without type arguments.
    Connection = HTTPConnection

# The store's keys have at most 255 bytes: an application can prefix the client's key.
_LONGEST = 200

_VISIBLE = re.compile(r"[\x21-\x7e]+")
_QUOTED = re.compile(r'"((?:[\x20\x21\x23-\x5b\x5d-\x7e]|\\["\\])+)"')


def executor(connection: Connection) -> eb.AsyncExecutor:
    """Return the executor of the application.

    Raises:
        RuntimeError: The application has another lifespan than `lifespan`.

    Example:
        >>> from starlette.requests import HTTPConnection
        >>> from eventbraid import web
        >>> state = {"executor": "the executor"}
        >>> web.executor(HTTPConnection({"type": "http", "state": state}))
        'the executor'
    """
    return cast("eb.AsyncExecutor", _from_state(connection, "executor"))


def coordinator(connection: Connection) -> eb.SagaCoordinator:
    """Return the saga coordinator of the application.

    Raises:
        RuntimeError: The application's lifespan has no coordinator.

    Example:
        >>> from starlette.requests import HTTPConnection
        >>> from eventbraid import web
        >>> web.coordinator(HTTPConnection({"type": "http", "state": {}}))
        Traceback (most recent call last):
        RuntimeError: the application has no coordinator; ...
    """
    return cast("eb.SagaCoordinator", _from_state(connection, "coordinator"))


def idempotency_key(connection: Connection) -> str:
    """Return the client's key of this request, from the header ``Idempotency-Key``.

    A request that is repeated has the same key. The draft standard has the key in
    quotes, but many clients send it without; both forms are the same key. If clients
    have accounts, prefix the key with the account, so that no client gets the result of
    another one's request.

    Raises:
        Problem: The key is missing or malformed (400).

    Example:
        >>> from starlette.requests import HTTPConnection
        >>> from eventbraid import web
        >>> headers = [(b"idempotency-key", b'"8e03978e"')]
        >>> web.idempotency_key(HTTPConnection({"type": "http", "headers": headers}))
        '8e03978e'
    """
    key = optional_idempotency_key(connection)
    if key is None:
        raise Problem(
            400,
            "idempotency-key-missing",
            "add a header Idempotency-Key: a new UUID for each new request, and the "
            "same one whenever you send that request again",
        )
    return key


def optional_idempotency_key(connection: Connection) -> str | None:
    """Return the client's key like `idempotency_key`; None if the request has no key.

    Raises:
        Problem: The key is malformed (400).

    Example:
        >>> from starlette.requests import HTTPConnection
        >>> from eventbraid import web
        >>> scope = {"type": "http", "headers": []}
        >>> web.optional_idempotency_key(HTTPConnection(scope)) is None
        True
    """
    given = connection.headers.getlist("idempotency-key")
    if not given:
        return None
    key = _unquoted(given[0].strip())
    if len(given) > 1 or key is None or len(key) > _LONGEST:
        raise Problem(
            400,
            "idempotency-key-malformed",
            f"Idempotency-Key must be given once, with 1 to {_LONGEST} visible ASCII "
            "characters, in quotes or without; a UUID is best",
        )
    return key


def causal_metadata(connection: Connection) -> dict[str, str]:
    """Return the metadata of the events that a request causes.

    ``correlation_id`` is the header ``X-Correlation-ID``, or a new UUID without it.
    ``causation_id`` is the header ``X-Causation-ID``, the id of the event to which the
    client reacts; there is none without the header.

    Returns:
        The argument ``metadata`` of `AsyncExecutor.execute`.

    Raises:
        Problem: One of the headers is malformed (400).

    Example:
        >>> from starlette.requests import HTTPConnection
        >>> from eventbraid import web
        >>> headers = [(b"x-correlation-id", b"checkout-7")]
        >>> web.causal_metadata(HTTPConnection({"type": "http", "headers": headers}))
        {'correlation_id': 'checkout-7'}
    """
    headers = connection.headers
    metadata = {"correlation_id": _id(headers, "X-Correlation-ID") or str(uuid4())}
    if cause := _id(headers, "X-Causation-ID"):
        metadata["causation_id"] = cause
    return metadata


def _from_state(connection: Connection, name: str) -> object:
    # Not `connection.state`: a framework may replace its class.
    state = cast("dict[str, Any]", connection.scope.get("state", {}))
    if name not in state:
        raise RuntimeError(
            f"the application has no {name}; give it a lifespan that has one: "
            "lifespan=eventbraid.web.lifespan(location), with coordinator= for sagas"
        )
    return state[name]


def _id(headers: Headers, name: str) -> str | None:
    given = headers.getlist(name)
    if not given:
        return None
    if len(given) > 1 or len(given[0]) > _LONGEST or not _VISIBLE.fullmatch(given[0]):
        raise Problem(
            400,
            "header-malformed",
            f"{name} must be given once, with 1 to {_LONGEST} visible ASCII "
            "characters; leave it out if you have no id",
        )
    return given[0]


def _unquoted(text: str) -> str | None:
    if quoted := _QUOTED.fullmatch(text):
        return re.sub(r"\\(.)", r"\1", quoted[1])
    return text if _VISIBLE.fullmatch(text) and not text.startswith('"') else None
