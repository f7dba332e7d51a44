"""What processes tell of what they asked of a store, and what they were answered.

A process writes a line of JSON for each thing, with the times of a clock that all
processes of a machine share (`CLOCK_MONOTONIC`). An append is told of twice: before it is
asked for and after its answer, so that of a process that was killed it is known what it
may have done. The Rust program of the soak writes the same lines.

Every event has a value of its own, `COMMIT INDEX/COUNT`: which append it belongs to, and
where in it the event stood.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

import msgspec

Expected = int | str
"""An exact version, or one of `any`, `no_stream` and `exists`."""


class Entry(msgspec.Struct, array_like=True, frozen=True):
    """An event, as somebody saw it."""

    position: int
    stream: str
    version: int
    value: str

    @property
    def commit(self) -> str:
        return commit_of(self.value)


class _Line(msgspec.Struct, frozen=True, tag_field="line"):
    pass


class Begun(_Line, tag="begun"):
    """An append is about to be asked for."""

    number: int
    thread: int
    at: int
    events: tuple[tuple[str, str], ...] = ()
    expect: dict[str, Expected] = {}
    key: str | None = None


class Done(_Line, tag="done"):
    """It was done."""

    number: int
    at: int
    first: int | None = None
    last: int | None = None
    versions: dict[str, int] = {}
    replayed: bool = False


class Refused(_Line, tag="refused"):
    """It was refused: nothing was written."""

    number: int
    at: int
    kind: str
    failures: tuple[tuple[str, Expected, int], ...] = ()


class Unclear(_Line, tag="unclear"):
    """The store could not say."""

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
    """The position of the last event was asked for."""

    position: int


class VersionRead(_Read, tag="version"):
    """The version of a stream was asked for."""

    stream: str
    version: int


class Following(_Line, tag="following"):
    """A subscription began."""

    subscriber: int
    after: int
    prefix: str | None = None
    since: int = 0


class Delivered(_Line, tag="delivered"):
    """A subscription brought an event."""

    subscriber: int
    at: int
    entry: Entry


class Unfollowed(_Line, tag="unfollowed"):
    """A subscription has ended."""

    subscriber: int
    at: int


class Trouble(_Line, tag="trouble"):
    """The store raised an error that is no answer; it was closed and opened again."""

    at: int
    kind: str
    text: str


class Opened(_Line, tag="opened"):
    """The store was opened."""

    at: int


class Closed(_Line, tag="closed"):
    """The store was closed, and all of the process's work is told of."""

    at: int


Read = StreamRead | SnapshotRead | LogRead | HeadRead | VersionRead
Answer = Done | Refused | Unclear
Subscribed = Following | Delivered | Unfollowed
Line = Begun | Answer | Read | Subscribed | Trouble | Opened | Closed

_LINES = msgspec.json.Decoder(Line)
encode = msgspec.json.Encoder().encode


@dataclass(frozen=True, slots=True)
class Append:
    """An append that was asked for; without an answer, nobody knows what came of it."""

    process: str
    asked: Begun
    answer: Answer | None = None

    @property
    def invoked(self) -> int:
        return self.asked.at

    @property
    def returned(self) -> int | None:
        """When it was known what came of it, if it ever was."""
        return None if self.done is None and self.refused is None else self.answer.at

    @property
    def done(self) -> Done | None:
        return self.answer if isinstance(self.answer, Done) else None

    @property
    def refused(self) -> Refused | None:
        return self.answer if isinstance(self.answer, Refused) else None

    @property
    def commit(self) -> str | None:
        """The name in the values of its events; an append that is tried again keeps it."""
        return commit_of(self.asked.events[0][1]) if self.asked.events else None

    def __str__(self) -> str:
        return f"append {self.asked.number} of {self.process} ({self.commit})"


@dataclass(slots=True)
class Followed:
    """A subscription, and what it brought, in order.

    Attributes:
        process: Whose it was.
        begun: What was asked for.
        delivered: What it brought.
        until: When it ended, or when its process was last heard of.
    """

    process: str
    begun: Following
    delivered: list[Delivered] = field(default_factory=list)
    until: int = 0


@dataclass(slots=True)
class History:
    """What all processes told, put together.

    Attributes:
        appends: What was asked to be appended.
        reads: Who read what.
        followed: The subscriptions.
        troubles: Who met with an error that is no answer.
        heard: When each process was last heard of.
    """

    appends: list[Append] = field(default_factory=list)
    reads: list[tuple[str, Read]] = field(default_factory=list)
    followed: list[Followed] = field(default_factory=list)
    troubles: list[tuple[str, Trouble]] = field(default_factory=list)
    heard: dict[str, int] = field(default_factory=dict)

    def add(self, process: str, lines: Iterable[Line]) -> None:
        """Take what one process told, in its order."""
        appends: dict[int, Append] = {}
        following: dict[int, Followed] = {}
        heard = 0
        for line in lines:
            heard = max(heard, _time_of(line))
            match line:
                case Begun():
                    appends[line.number] = Append(process, line)
                case Done() | Refused() | Unclear():
                    asked = appends[line.number].asked
                    appends[line.number] = Append(process, asked, line)
                case Following():
                    following[line.subscriber] = Followed(process, line)
                case Delivered():
                    following[line.subscriber].delivered.append(line)
                case Unfollowed():
                    following[line.subscriber].until = line.at
                case Trouble():
                    self.troubles.append((process, line))
                case Opened() | Closed():
                    pass
                case _:
                    self.reads.append((process, line))
        for followed in following.values():
            followed.until = followed.until or heard
        self.heard[process] = heard
        self.appends.extend(appends.values())
        self.followed.extend(following.values())


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that no store may do.

    Attributes:
        kind: `lost`, `torn` or `wrong`.
        by: The check that found it.
        text: What it is.
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
        case Following():
            return line.since
        case _:
            return line.at


def value_of(commit: str, index: int, count: int) -> str:
    """The value of an event of a commit."""
    return f"{commit} {index}/{count}"


def commit_of(value: str) -> str:
    """Which commit an event belongs to."""
    return value.partition(" ")[0]


def place_of(value: str) -> tuple[int, int]:
    """Where in its commit an event stands, and how many there are."""
    index, _, count = value.partition(" ")[2].partition("/")
    return int(index), int(count)


def decoded(raw: bytes) -> Iterator[Line]:
    """Decode lines; one that was cut off by a kill is none."""
    whole, _, _ = raw.rpartition(b"\n")
    return map(_LINES.decode, whole.splitlines())
