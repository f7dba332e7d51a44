"""Validates the streams that a command requests in its `discover`."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from eventbraid.command._provenance import mark_raised_by_command
from eventbraid.command._stream import Stream
from eventbraid.domain._invalid_value import shown_argument
from eventbraid.errors import DiscoveryLimit, InvalidArgument

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from eventbraid.command._command_base import CommandBase

REQUESTS_LIMIT = 100_000
"""The maximum number of streams that `discover` may yield in one round, including
those that were read before."""


@dataclass(frozen=True, slots=True)
class DiscoveryBounds:
    """The maximum numbers of a command's discovery rounds and discovered streams."""

    rounds: int = 16
    streams: int = 1_000


def requests(
    command: CommandBase, discover: Callable[[], object]
) -> Iterator[Stream[Any, Any] | type[Stream[Any, Any]]]:
    """Iterate over the streams and kinds that a command requests in one round.

    Args:
        command: The command.
        discover: Calls its `discover`.

    Raises:
        InvalidArgument: It returns something else than streams and kinds of streams.
        DiscoveryLimit: It returns too many streams.
    """
    try:
        requested = discover()
        if not isinstance(requested, Iterable):
            remedy = "return or yield streams from discover()"
            raise discovery_error(command, requested, remedy)  # noqa: TRY301 - marked alike
        for number, found in enumerate(cast("Iterable[object]", requested)):
            if number >= REQUESTS_LIMIT:
                what = "requests in one round"
                raise discovery_limit(command, what, REQUESTS_LIMIT, number + 1)  # noqa: TRY301 - as above
            yield _checked_request(command, found)
    except Exception as error:
        mark_raised_by_command(error)
        raise


def _checked_request(
    command: CommandBase, found: object
) -> Stream[Any, Any] | type[Stream[Any, Any]]:
    requested: Any = found
    if isinstance(requested, Stream):
        return requested  # pyright: ignore[reportUnknownVariableType]
    if not (isinstance(requested, type) and issubclass(requested, Stream)):
        remedy = (
            "give a stream by its kind, Kind(id), or the kind itself for all its "
            "streams"
        )
        raise discovery_error(command, found, remedy)
    if not requested.category:
        remedy = "it has no category; give a kind that has one"
        raise discovery_error(command, requested.__name__, remedy)
    return requested  # pyright: ignore[reportUnknownVariableType]


def discovery_error(
    command: CommandBase, thing: object, remedy: str
) -> InvalidArgument:
    """Return the error of a request that isn't valid."""
    name = command.__shape__.name
    return InvalidArgument(f"discovery of {name}", shown_argument(thing), remedy)


def discovery_limit(
    command: CommandBase, what: str, limit: int, actual: int
) -> DiscoveryLimit:
    """Return the error of a discovery that exceeds a limit."""
    return DiscoveryLimit(command.__shape__.name, what, limit, actual)
