"""The log at the end of a history, with which all results are compared."""

from __future__ import annotations

import itertools
from bisect import bisect_left, bisect_right
from collections.abc import Iterable
from dataclasses import dataclass, field

from tests.histories.history import Entry

UNBOUNDED = 1 << 62


@dataclass(frozen=True, slots=True)
class Commit:
    """Adjacent events that name the same commit."""

    name: str
    entries: tuple[Entry, ...]

    @property
    def first(self) -> int:
        return self.entries[0].position

    @property
    def last(self) -> int:
        return self.entries[-1].position

    def versions(self) -> dict[str, int]:
        """Return the versions of its streams after the commit."""
        return {entry.stream: entry.version for entry in self.entries}


@dataclass(slots=True)
class StreamStates:
    """The states of one stream.

    Attributes:
        versions: Its versions, ascending.
        since: The first position at which it had each version.
        until: The last position at which it had each version.
        commits: The commit of each version; `None` is before this part of the log.
    """

    versions: list[int]
    since: list[int]
    until: list[int]
    commits: list[Commit | None]

    def add(self, commit: Commit, version: int) -> None:
        self.until[-1] = commit.first - 1
        self.versions.append(version)
        self.since.append(commit.last)
        self.until.append(UNBOUNDED)
        self.commits.append(commit)


@dataclass(slots=True)
class Contents:
    """The content of a stream at a version, as a digest."""

    version: int = 0
    digest: int = 0
    last: str = ""

    def with_value(self, value: str) -> Contents:
        return Contents(self.version + 1, hash((self.digest, value)), value)


@dataclass
class Log:
    """The events after a position, in the order of their positions.

    Attributes:
        entries: The events.
        base: The position before the first of them.
        contents: The contents of the streams at that position; other streams were empty.
    """

    entries: list[Entry]
    base: int = 0
    contents: dict[str, Contents] = field(default_factory=dict)

    def __post_init__(self) -> None:
        groups = itertools.groupby(self.entries, lambda entry: entry.commit)
        self.commits = [Commit(name, tuple(group)) for name, group in groups]
        self.named = {commit.name: commit for commit in self.commits}
        self.lasts = [self.base, *(commit.last for commit in self.commits)]
        self._states: dict[str, StreamStates] = {}
        for commit in self.commits:
            for stream, version in commit.versions().items():
                self.states(stream).add(commit, version)

    @property
    def head(self) -> int:
        return self.lasts[-1]

    def before(self, commit: Commit) -> int:
        """Return the head of the log before a commit."""
        return commit.first - 1

    def is_boundary(self, position: int) -> bool:
        """Whether a commit ends at a position."""
        at = bisect_right(self.lasts, position) - 1
        return at >= 0 and self.lasts[at] == position

    def entry(self, position: int) -> Entry | None:
        """Return the event at a position, if it is in this part of the log."""
        index = position - self.base - 1
        return self.entries[index] if 0 <= index < len(self.entries) else None

    def after(self, position: int) -> list[Entry]:
        """Return the events after a position."""
        return self.entries[max(0, position - self.base) :]

    def base_version(self, stream: str) -> int:
        """Return the version of a stream before this part of the log."""
        known = self.contents.get(stream)
        return 0 if known is None else known.version

    def states(self, stream: str) -> StreamStates:
        """Return the states of a stream in this part of the log."""
        if stream not in self._states:
            first = StreamStates(
                [self.base_version(stream)], [self.base], [UNBOUNDED], [None]
            )
            self._states[stream] = first
        return self._states[stream]

    def span_of(
        self, stream: str, minimum: int, maximum: int
    ) -> tuple[int, int] | None:
        """Return the positions at which the version of a stream was in a range."""
        states = self.states(stream)
        low = bisect_left(states.versions, minimum)
        high = bisect_right(states.versions, maximum) - 1
        return None if low > high else (states.since[low], states.until[high])

    def version_at(self, stream: str, position: int) -> int:
        """Return the version of a stream as of a position."""
        states = self.states(stream)
        return states.versions[max(0, bisect_right(states.since, position) - 1)]

    def contents_after(self) -> dict[str, Contents]:
        """Return the contents of the streams at the end, for the next part."""
        contents = dict(self.contents)
        for entry in self.entries:
            before = contents.get(entry.stream, Contents())
            contents[entry.stream] = before.with_value(entry.value)
        return contents


def entries_of(events: Iterable) -> list[Entry]:
    """Convert the events of a store."""
    return [
        Entry(event.position, event.stream, event.version, bytes(event.data).decode())
        for event in events
    ]
