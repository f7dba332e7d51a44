"""The calls that processes made on a store, and their results.

A process writes a line of JSON for each, with the times of a clock that all processes of
a machine share (`CLOCK_MONOTONIC`). An append has two lines, one before the call and one
after its result, so that the possible appends of a killed process are known. The Rust
program of the soak test writes the same lines.

Every event has a unique value, `COMMIT INDEX/COUNT`: the append that it belongs to, and
its place there.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

import msgspec

Expected = int | str
"""An exact version, or one of `any`, `no_stream` and `exists`."""


class Entry(msgspec.Struct, array_like=True, frozen=True):
    """An event, as a process read it."""

    position: int
    stream: str
    version: int
    value: str

    @property
    def commit(self) -> str:
        return commit_of(self.value)


class _Line(msgspec.Struct, frozen=True, tag_field="line"):
    pass


class AppendBegun(_Line, tag="begun"):
    """An append is about to be called."""

    number: int
    thread: int
    at: int
    events: tuple[tuple[str, str], ...] = ()
    expect: dict[str, Expected] = {}
    key: str | None = None


class AppendDone(_Line, tag="done"):
    """The append succeeded."""

    number: int
    at: int
    first: int | None = None
    last: int | None = None
    versions: dict[str, int] = {}
    replayed: bool = False


class AppendRefused(_Line, tag="refused"):
    """The append was refused, and wrote nothing."""

    number: int
    at: int
    kind: str
    failures: tuple[tuple[str, Expected, int], ...] = ()


class AppendUnknown(_Line, tag="unclear"):
    """The outcome of the append is unknown."""

    number: int
    at: int
    why: str = ""


class _Read(_Line):
    thread: int
    invoked: int
    returned: int


class StreamRead(_Read, tag="stream"):
    """A stream was read to its end, from after a version."""

    stream: str
    after: int
    entries: tuple[Entry, ...] = ()


class SnapshotRead(_Read, tag="snapshot"):
    """Several streams were read as of one position."""

    position: int
    versions: dict[str, int]
    entries: tuple[Entry, ...] = ()


class LogRead(_Read, tag="log"):
    """The log was read to its end, from after a position."""

    after: int
    entries: tuple[Entry, ...] = ()


class HeadRead(_Read, tag="head"):
    """The position of the last event was read."""

    position: int


class VersionRead(_Read, tag="version"):
    """The version of a stream was read."""

    stream: str
    version: int


class SubscriptionBegun(_Line, tag="following"):
    """A subscription began."""

    subscriber: int
    after: int
    prefix: str | None = None
    since: int = 0


class Delivered(_Line, tag="delivered"):
    """A subscription delivered an event."""

    subscriber: int
    at: int
    entry: Entry


class SubscriptionEnded(_Line, tag="unfollowed"):
    """A subscription has ended."""

    subscriber: int
    at: int


class StoreFailure(_Line, tag="trouble"):
    """The store raised an error that is no result, and was opened again."""

    at: int
    kind: str
    text: str


class Opened(_Line, tag="opened"):
    """The store was opened."""

    at: int


class Closed(_Line, tag="closed"):
    """The store was closed, and the process has written all its lines."""

    at: int


Read = StreamRead | SnapshotRead | LogRead | HeadRead | VersionRead
Answer = AppendDone | AppendRefused | AppendUnknown
SubscriptionLine = SubscriptionBegun | Delivered | SubscriptionEnded
Line = AppendBegun | Answer | Read | SubscriptionLine | StoreFailure | Opened | Closed

_LINES = msgspec.json.Decoder(Line)
encode = msgspec.json.Encoder().encode


@dataclass(frozen=True, slots=True)
class Append:
    """An append and its result; without a result, its outcome is unknown."""

    process: str
    request: AppendBegun
    answer: Answer | None = None

    @property
    def invoked(self) -> int:
        return self.request.at

    @property
    def returned(self) -> int | None:
        """The time at which the outcome was known, if it is."""
        return None if self.done is None and self.refused is None else self.answer.at

    @property
    def done(self) -> AppendDone | None:
        return self.answer if isinstance(self.answer, AppendDone) else None

    @property
    def refused(self) -> AppendRefused | None:
        return self.answer if isinstance(self.answer, AppendRefused) else None

    @property
    def commit(self) -> str | None:
        """The name in the values of its events, which a repeated append keeps."""
        return commit_of(self.request.events[0][1]) if self.request.events else None

    def __str__(self) -> str:
        return f"append {self.request.number} of {self.process} ({self.commit})"


@dataclass(slots=True)
class Subscription:
    """A subscription and the events that it delivered, in order.

    Attributes:
        process: The process that subscribed.
        begun: The arguments of the subscription.
        delivered: The delivered events.
        until: The time of its end, or of the last line of its process.
    """

    process: str
    begun: SubscriptionBegun
    delivered: list[Delivered] = field(default_factory=list)
    until: int = 0


@dataclass(slots=True)
class History:
    """The calls of all processes.

    Attributes:
        appends: The appends.
        reads: The process and the result of each read.
        subscriptions: The subscriptions.
        failures: The process and the error of each failure of the store.
        last_line_at: The time of the last line of each process.
    """

    appends: list[Append] = field(default_factory=list)
    reads: list[tuple[str, Read]] = field(default_factory=list)
    subscriptions: list[Subscription] = field(default_factory=list)
    failures: list[tuple[str, StoreFailure]] = field(default_factory=list)
    last_line_at: dict[str, int] = field(default_factory=dict)

    def add(self, process: str, lines: Iterable[Line]) -> None:
        """Add the lines of one process, in its order."""
        appends: dict[int, Append] = {}
        following: dict[int, Subscription] = {}
        last_line_at = 0
        for line in lines:
            last_line_at = max(last_line_at, _time_of(line))
            match line:
                case AppendBegun():
                    appends[line.number] = Append(process, line)
                case AppendDone() | AppendRefused() | AppendUnknown():
                    request = appends[line.number].request
                    appends[line.number] = Append(process, request, line)
                case SubscriptionBegun():
                    following[line.subscriber] = Subscription(process, line)
                case Delivered():
                    following[line.subscriber].delivered.append(line)
                case SubscriptionEnded():
                    following[line.subscriber].until = line.at
                case StoreFailure():
                    self.failures.append((process, line))
                case Opened() | Closed():
                    pass
                case _:
                    self.reads.append((process, line))
        for subscription in following.values():
            subscription.until = subscription.until or last_line_at
        self.last_line_at[process] = last_line_at
        self.appends.extend(appends.values())
        self.subscriptions.extend(following.values())


@dataclass(frozen=True, slots=True)
class Finding:
    """A violation of a promise of the store.

    Attributes:
        kind: `lost`, `torn` or `wrong`.
        by: The check that found it.
        text: The description.
    """

    kind: str
    by: str
    text: str

    def __str__(self) -> str:
        return f"{self.kind} ({self.by}): {self.text}"


def _time_of(line: Line) -> int:
    match line:
        case _Read():
            return line.returned
        case SubscriptionBegun():
            return line.since
        case _:
            return line.at


def value_of(commit: str, index: int, count: int) -> str:
    """Return the value of an event of a commit."""
    return f"{commit} {index}/{count}"


def commit_of(value: str) -> str:
    """Return the commit that an event belongs to."""
    return value.partition(" ")[0]


def place_of(value: str) -> tuple[int, int]:
    """Return the index of an event in its commit, and the number of events there."""
    index, _, count = value.partition(" ")[2].partition("/")
    return int(index), int(count)


def decoded(raw: bytes) -> Iterator[Line]:
    """Decode lines, except a last one that a kill has truncated."""
    whole, _, _ = raw.rpartition(b"\n")
    return map(_LINES.decode, whole.splitlines())
