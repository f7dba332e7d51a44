"""A problem report (RFC 9457) as an exception, and the response that has it."""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING

import msgspec
from starlette.responses import Response

import eventbraid as eb

if TYPE_CHECKING:
    from collections.abc import Mapping

MEDIA_TYPE = "application/problem+json"
TYPE_PREFIX = "/problems/"

_LOWEST, _HIGHEST = 400, 599


class Problem(Exception):
    """An error that a client receives as a problem report.

    An endpoint or a dependency raises it, and the handlers of `problem_handlers` make
    the response. Its `detail` and `extensions` are sent to the client as they are.

    Attributes:
        status: The status code.
        kind: The name of the problem for programs, the last part of the report's
            ``type``; `None` for ``about:blank``, a problem that its status describes.
        detail: The reason and the remedy, for people.
        retry_after: The seconds after which the client may try again; `None` if another
            attempt has the same result.
        headers: Further headers of the response.
        extensions: Further members of the report.

    Example:
        >>> from eventbraid import web
        >>> problem = web.Problem(404, "no-such-order", "no order has this id")
        >>> problem.response().body
        b'{"type":"/problems/no-such-order","title":"Not Found","status":404,...}'
    """

    def __init__(
        self,
        status: int,
        kind: str | None,
        detail: str,
        *,
        retry_after: int | None = None,
        headers: Mapping[str, str] | None = None,
        extensions: Mapping[str, object] | None = None,
    ) -> None:
        """Build the problem.

        Raises:
            InvalidArgument: The status isn't that of an error.
        """
        if not _LOWEST <= status <= _HIGHEST:
            raise eb.errors.InvalidArgument(
                "status of a problem", str(status), "it must be from 400 to 599"
            )
        super().__init__(detail)
        self.status = status
        self.kind = kind
        self.detail = detail
        self.retry_after = retry_after
        self.headers = dict(headers or {})
        self.extensions = dict(extensions or {})

    def response(self, *, type_prefix: str = TYPE_PREFIX) -> Response:
        """Build the response.

        Args:
            type_prefix: The beginning of the report's ``type``; its end is the kind.

        Example:
            >>> from eventbraid import web
            >>> problem = web.Problem(503, "busy", "try again", retry_after=1)
            >>> problem.response().headers["Retry-After"]
            '1'
        """
        standard = {
            "type": "about:blank" if self.kind is None else type_prefix + self.kind,
            "title": title_of(self.status),
            "status": self.status,
            "detail": _encodable(self.detail),
        }
        others = {
            name: _member(value)
            for name, value in self.extensions.items()
            if name not in standard
        }
        headers = dict(self.headers)
        if self.retry_after is not None:
            headers["Retry-After"] = str(self.retry_after)
        return Response(
            msgspec.json.encode(standard | others),
            self.status,
            headers=headers,
            media_type=MEDIA_TYPE,
        )


def title_of(status: int) -> str:
    """Return the phrase of a status code."""
    try:
        return HTTPStatus(status).phrase
    except ValueError:  # a status code that isn't registered
        return "Error"


def _member(value: object) -> msgspec.Raw:
    try:
        return msgspec.Raw(msgspec.json.encode(value, enc_hook=_plain))
    except (TypeError, ValueError, RecursionError):
        # JSON has no form of this value, such as a text with lone surrogates or a
        # mapping with equal keys. A report with its text is better than no report.
        return msgspec.Raw(msgspec.json.encode(_encodable(str(value))))


def _plain(value: object) -> object:
    """Return what a domain value is made of; the text of any other object."""
    return int(value) if isinstance(value, int) else str(value)


def _encodable(text: str) -> str:
    """Escape lone surrogates, which the JSON of a request may contain."""
    return text.encode("utf-8", "backslashreplace").decode()
