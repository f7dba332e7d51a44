"""The errors that the execution of a command raises."""

from __future__ import annotations

from typing import TYPE_CHECKING

from eventbraid.errors._base import MAXIMUM_LISTED, EventbraidError, short_repr

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping


class CommandError(EventbraidError):
    """The base of the errors that the execution of a command raises.

    Example:
        >>> import eventbraid as eb
        >>> issubclass(eb.CommandRejected, eb.CommandError)
        True
    """


class UndeclaredStream(CommandError):
    """A command wrote to a stream that it neither declared nor discovered.

    Attributes:
        stream: The stream's id.
        command: The name of the command's class.
        declared: The streams that the command declared or discovered.

    Example:
        >>> import eventbraid as eb
        >>> error = eb.errors.UndeclaredStream("account-c", "Transfer", ["account-a"])
        >>> error.declared
        ('account-a',)
    """

    def __init__(self, stream: str, command: str, declared: Iterable[str] = ()) -> None:
        """Build the error from the stream, the command and the declared streams."""
        self.stream = stream
        self.command = command
        self.declared = tuple(declared)
        shown = ", ".join(repr(name) for name in self.declared[:MAXIMUM_LISTED])
        more = ", ..." if len(self.declared) > MAXIMUM_LISTED else ""
        super().__init__(
            f"{command} wrote to {stream!r}, which it neither declared nor discovered "
            f"({shown or 'it has no streams'}{more}); "
            "declare a field for it, or return it from discover()"
        )


class DiscoveryLimit(CommandError):
    """The discovery of a command exceeds a limit. Nothing was written.

    Attributes:
        command: The name of the command's class.
        what: What is limited: ``"rounds"``, ``"streams"``, the streams of a category,
            or ``"requests in one round"``.
        limit: The maximum.
        actual: The number at which the limit was found to be exceeded. The command may
            need more: its discovery ends at this number.

    Example:
        >>> import eventbraid as eb
        >>> eb.errors.DiscoveryLimit("Transfer", "rounds", 16, 17).limit
        16
    """

    def __init__(self, command: str, what: str, limit: int, actual: int) -> None:
        """Build the error from the command, the limit and the number."""
        self.command = command
        self.what = what
        self.limit = limit
        self.actual = actual
        super().__init__(
            f"the discovery of {command} needs at least {actual:,} {what}, expected at "
            f"most {limit:,}; {_discovery_remedy(what)}"
        )


def _discovery_remedy(what: str) -> str:
    """Return the remedy, which depends on the limit."""
    if what == "rounds":
        return (
            "make discover() return more streams at once, or raise discovery_rounds "
            "of the executor"
        )
    if what.startswith("requests"):
        return "make discover() return each stream once"
    return (
        "keep a stream that summarises the others, or raise discovery_streams of the "
        "executor"
    )


class CommandRejected(CommandError):
    """A business rule rejected the command. Nothing was written.

    The executor doesn't retry the command.

    Attributes:
        code: The stable name of the rule, for programs.
        message: The text, for people.
        facts: The values that the rule compared.

    Example:
        >>> import eventbraid as eb
        >>> rejected = eb.CommandRejected("insufficient_funds", facts={"available": 3})
        >>> str(rejected), rejected.facts["available"]
        ('insufficient_funds (available=3)', 3)
    """

    def __init__(
        self,
        code: str,
        message: str | None = None,
        facts: Mapping[str, object] | None = None,
    ) -> None:
        """Build the error from the rule and the values that the rule compared."""
        self.code = code
        self.facts = dict(facts or {})
        listed = ", ".join(
            f"{name}={short_repr(value)}" for name, value in self.facts.items()
        )
        super().__init__(message or (f"{code} ({listed})" if listed else code))


class FoldError(CommandError):
    """`apply` raised an exception for an event that is recorded.

    The exception is the cause (``__cause__``). The stream can't be used by commands
    until `apply` accepts the event.

    Attributes:
        kind: The name of the class whose `apply` raised the exception.
        type: The event type.
        stream: The stream's id.
        version: The event's place in the stream.
        position: The event's place in the log.

    Example:
        >>> import eventbraid as eb
        >>> eb.errors.FoldError("Account", "opened", "account-a", 3, 7).version
        3
    """

    def __init__(
        self,
        kind: str,
        type: str,  # noqa: A002 - the fact's name everywhere
        stream: str,
        version: int,
        position: int,
    ) -> None:
        """Build the error from the class and the event."""
        self.kind = kind
        self.type = type
        self.stream = stream
        self.version = version
        self.position = position
        super().__init__(
            f"{kind}.apply() raised an exception for the {type!r} event at version "
            f"{version} of {stream!r}, position {position}; change apply() so that it "
            "accepts every event that was recorded"
        )


class RetriesExhausted(CommandError):
    """Each allowed attempt of a command ended with a conflict. Nothing was written.

    Attributes:
        attempts: The number of attempts.
        last: The error of the last attempt.
        seconds: The maximum duration of all attempts, if a further one would begin
            after it; None if there were too many attempts.

    Example:
        >>> import eventbraid as eb
        >>> eb.errors.RetriesExhausted(5, eb.VersionConflict([])).attempts
        5
    """

    def __init__(
        self, attempts: int, last: EventbraidError, seconds: float | None = None
    ) -> None:
        """Build the error from the attempts, the last failure and the time."""
        self.attempts = attempts
        self.last = last
        self.seconds = seconds
        time = "" if seconds is None else f" in {seconds:g} s"
        super().__init__(
            f"gave up after {attempts} attempts{time}; the last one failed: {last}; "
            "retry later, or allow more attempts by RetryPolicy.maximum_attempts, or "
            "more time by retry_timeout"
        )


class DeadlineExceeded(CommandError, TimeoutError):
    """The deadline of a command passed before its commit. Nothing was written.

    Attributes:
        command: The name of the command's class.
        attempts: The number of attempts.
        last: The error of the last attempt; `None` if there was no attempt.

    Example:
        >>> import eventbraid as eb
        >>> isinstance(eb.errors.DeadlineExceeded("Transfer", 0), TimeoutError)
        True
    """

    def __init__(
        self, command: str, attempts: int, last: EventbraidError | None = None
    ) -> None:
        """Build the error from the command and its attempts."""
        self.command = command
        self.attempts = attempts
        self.last = last
        reason = "" if last is None else f"; the last one failed: {last}"
        super().__init__(
            f"the deadline of {command} passed after {attempts} attempts{reason}; "
            "give it more time, or try again later"
        )
