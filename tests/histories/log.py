"""The log as it stands in the end: what all answers are held against."""

from __future__ import annotations

import itertools
from bisect import bisect_left, bisect_right
from collections.abc import Iterable
from dataclasses import dataclass, field

from tests.histories.history import Entry

ENDLESS = 1 << 62


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
        """The versions of the streams after it."""
        return {entry.stream: entry.version for entry in self.entries}


@dataclass(slots=True)
class Turns:
    """The states that one stream went through.

    Attributes:
        versions: The versions it had, ascending.
        since: The position from which on it had each.
        until: The last position at which it had each.
        commits: What made each; the first state was made by none of this part of the log.
    """

    versions: list[int]
    since: list[int]
    until: list[int]
    commits: list[Commit | None]

    def turn(self, commit: Commit, version: int) -> None:
        self.until[-1] = commit.first - 1
        self.versions.append(version)
        self.since.append(commit.last)
        self.until.append(ENDLESS)
        self.commits.append(commit)


@dataclass(slots=True)
class Contents:
    """What a stream held at some version, in a form that is quickly compared."""

    version: int = 0
    digest: int = 0
    last: str = ""

    def with_value(self, value: str) -> Contents:
        return Contents(self.version + 1, hash((self.digest, value)), value)


@dataclass
class Log:
    """Events in the order of their positions, from after a position on.

    Attributes:
        entries: The events.
        base: The position before the first of them.
        contents: What streams held at that position; streams not named held nothing.
    """

    entries: list[Entry]
    base: int = 0
    contents: dict[str, Contents] = field(default_factory=dict)

    def __post_init__(self) -> None:
        groups = itertools.groupby(self.entries, lambda entry: entry.commit)
        self.commits = [Commit(name, tuple(group)) for name, group in groups]
        self.named = {commit.name: commit for commit in self.commits}
        self.lasts = [self.base, *(commit.last for commit in self.commits)]
        self._turns: dict[str, Turns] = {}
        for commit in self.commits:
            for stream, version in commit.versions().items():
                self.turns(stream).turn(commit, version)

    @property
    def head(self) -> int:
        return self.lasts[-1]

    def before(self, commit: Commit) -> int:
        """The position at which the log stood before a commit."""
        return commit.first - 1

    def is_boundary(self, position: int) -> bool:
        """Whether a commit ends there."""
        at = bisect_right(self.lasts, position) - 1
        return at >= 0 and self.lasts[at] == position

    def entry(self, position: int) -> Entry | None:
        """The event at a position, if it is of this part of the log."""
        index = position - self.base - 1
        return self.entries[index] if 0 <= index < len(self.entries) else None

    def after(self, position: int) -> list[Entry]:
        """The events after a position."""
        return self.entries[max(0, position - self.base) :]

    def base_version(self, stream: str) -> int:
        """The version that a stream had before this part of the log."""
        known = self.contents.get(stream)
        return 0 if known is None else known.version

    def turns(self, stream: str) -> Turns:
        """The states that a stream went through in this part of the log."""
        if stream not in self._turns:
            first = Turns([self.base_version(stream)], [self.base], [ENDLESS], [None])
            self._turns[stream] = first
        return self._turns[stream]

    def span_of(self, stream: str, least: int, most: int) -> tuple[int, int] | None:
        """The positions at which a stream had at least and at most such a version."""
        turns = self.turns(stream)
        low = bisect_left(turns.versions, least)
        high = bisect_right(turns.versions, most) - 1
        return None if low > high else (turns.since[low], turns.until[high])

    def version_at(self, stream: str, position: int) -> int:
        """The version of a stream as of a position."""
        turns = self.turns(stream)
        return turns.versions[max(0, bisect_right(turns.since, position) - 1)]

    def contents_after(self) -> dict[str, Contents]:
        """What streams hold at the end: the beginning of the next part."""
        held = dict(self.contents)
        for entry in self.entries:
            before = held.get(entry.stream, Contents())
            held[entry.stream] = before.with_value(entry.value)
        return held


def entries_of(events: Iterable) -> list[Entry]:
    """Take events from a store."""
    return [
        Entry(event.position, event.stream, event.version, bytes(event.data).decode())
        for event in events
    ]
