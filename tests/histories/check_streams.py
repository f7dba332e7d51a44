"""Is each stream, by itself, linearizable? Told without looking at the log.

A stream is a list to which values are appended, under conditions on its length, and which
is read. Here a history of one stream is searched for an order of its operations that
agrees with real time and with every answer, as in Wing and Gong's algorithm with Lowe's
memory of what was tried. What has no answer may have happened at any time after it was
asked for, or never.

It knows nothing of positions, so that a store whose log and answers are wrong in the same
way does not pass.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass

from tests.histories.check_order import holds
from tests.histories.log import Contents
from tests.histories.history import (
    Append,
    Expected,
    Finding,
    History,
    SnapshotRead,
    StreamRead,
    VersionRead,
)

BY = "streams"

State = tuple[int, int, str]
"""The version of a stream, a digest of its values, and the last of them."""


@dataclass(frozen=True, slots=True)
class Step:
    """What an operation was for one stream.

    Attributes:
        what: What it was, for people.
        invoked: When it was asked for.
        returned: When it was answered, if it was.
        values: What it appended.
        expected: What it demanded.
        failed: Whether that demand was not met.
        version: The version of the stream that the answer told of, after it.
        digest: Of all values that a read saw.
        last: The last value that a read saw.
    """

    what: str
    invoked: int
    returned: int | None
    values: tuple[str, ...] = ()
    expected: Expected = "any"
    failed: bool = False
    version: int | None = None
    digest: int | None = None
    last: str | None = None

    def applied(self, state: State) -> State | None:
        """The state after it, or `None` where it can't have had its answer."""
        if holds(self.expected, state[0]) == self.failed:
            return None
        contents = Contents(*state)
        for value in self.values:
            contents = contents.with_value(value)
        after = (contents.version, contents.digest, contents.last)
        fits = (
            self.version in {None, after[0]}
            and self.digest in {None, after[1]}
            and self.last in {None, after[2]}
        )
        return after if fits else None


def check_streams(
    history: History, contents: dict[str, Contents] | None = None
) -> list[Finding]:
    """Search an order for each stream.

    Args:
        history: What was asked and answered.
        contents: What streams held before.
    """
    held = contents or {}
    findings = []
    for stream, steps in steps_of(history).items():
        begun = held.get(stream, Contents())
        state = (begun.version, begun.digest, begun.last)
        stuck = search(steps, state)
        if stuck is not None:
            text = f"{stream} has no order that explains {stuck.what}: {stuck}"
            findings.append(Finding("wrong", BY, text))
    return findings


def steps_of(history: History) -> dict[str, list[Step]]:
    """Split what was done into what it was for each stream."""
    steps: defaultdict[str, list[Step]] = defaultdict(list)
    for append in _once_each(history.appends):
        for stream, step in _of_append(append):
            steps[stream].append(step)
    for process, read in history.reads:
        what = f"{type(read).__name__} of {process}"
        times = (read.invoked, read.returned)
        match read:
            case VersionRead():
                step = Step(what, *times, version=read.version)
                steps[read.stream].append(step)
            case StreamRead():
                values = [entry.value for entry in read.entries]
                steps[read.stream].append(_of_values(what, times, read.after, values))
            case SnapshotRead():
                for stream, version in read.versions.items():
                    values = [e.value for e in read.entries if e.stream == stream]
                    after = version - len(values)
                    steps[stream].append(_of_values(what, times, after, values))
    return steps


def _of_values(
    what: str, times: tuple[int, int], after: int, values: list[str]
) -> Step:
    version = after + len(values)
    if after:
        # What stood before it was not read; an empty rest says that it was no longer.
        known = version if values else None
        return Step(what, *times, version=known, last=values[-1] if values else None)
    contents = Contents()
    for value in values:
        contents = contents.with_value(value)
    return Step(what, *times, version=version, digest=contents.digest)


def _once_each(appends: Iterable[Append]) -> Iterable[Append]:
    """Leave of an append that was tried again the part that counts."""
    tried: defaultdict[tuple[str, str], list[Append]] = defaultdict(list)
    for append in appends:
        if append.commit is None or append.asked.key is None:
            yield append
        else:
            tried[append.asked.key, append.commit].append(append)
    for attempts in tried.values():
        if len(attempts) == 1:
            yield attempts[0]
        else:
            yield from _joined(attempts)


def _joined(attempts: list[Append]) -> Iterable[Append]:
    """Attempts under one key are one append, from the first asking to the first answer."""
    yield from (append for append in attempts if append.refused is not None)
    others = [append for append in attempts if append.refused is None]
    if not others:
        return
    first = min(others, key=lambda append: append.invoked)
    done = [append for append in others if append.done is not None]
    answer = min((a.answer for a in done), key=lambda answer: answer.at, default=None)
    yield Append(first.process, first.asked, answer)


def _of_append(append: Append) -> Iterable[tuple[str, Step]]:
    asked = append.asked
    values: defaultdict[str, list[str]] = defaultdict(list)
    for stream, value in asked.events:
        values[stream].append(value)
    what, returned = str(append), append.returned
    if (refused := append.refused) is not None:
        named = {stream: actual for stream, _, actual in refused.failures}
        for stream, expected in asked.expect.items() if named else ():
            actual = named.get(stream)
            failed = actual is not None
            step = Step(what, append.invoked, returned, (), expected, failed, actual)
            yield stream, step
        return
    if append.done is not None and append.done.replayed and not values:
        return
    told = {} if append.done is None else append.done.versions
    for stream in values.keys() | asked.expect.keys():
        expected = asked.expect.get(stream, "any")
        more, version = tuple(values.get(stream, ())), told.get(stream)
        if returned is None and not more:
            continue
        step = Step(what, append.invoked, returned, more, expected, version=version)
        yield stream, step


# --- the search


class _Event:
    """The beginning or the end of a step, in a list from which both can be lifted."""

    __slots__ = ("end", "next", "number", "previous", "step")

    def __init__(self, step: Step, number: int) -> None:
        self.step = step
        self.number = number
        self.end: _Event | None = None
        self.previous: _Event | None = None
        self.next: _Event | None = None

    def lift(self) -> None:
        self.previous.next = self.next
        if self.next is not None:
            self.next.previous = self.previous

    def put_back(self) -> None:
        self.previous.next = self
        if self.next is not None:
            self.next.previous = self


def search(steps: list[Step], state: State) -> Step | None:
    """Search for an order; answer a step that no order explains, or `None`."""
    head = _listed(steps)
    left = sum(step.returned is not None for step in steps)
    taken, tried = 0, set()
    path: list[tuple[_Event, State]] = []
    event, stuck, reached = head.next, None, -1
    while left:
        if (event is not None and event.end is not None) or _is_open(event):
            after = event.step.applied(state)
            key = (taken | 1 << event.number, after)
            if after is not None and key not in tried:
                tried.add(key)
                path.append((event, state))
                taken, state = key
                left -= event.end is not None
                _take(event)
                event = head.next
            else:
                event = event.next
            continue
        # The end of a step that was not taken, or of the list: something before was wrong.
        if event is not None and len(path) > reached:
            stuck, reached = event.step, len(path)
        if not path:
            return stuck or steps[0]
        event, state = path.pop()
        taken &= ~(1 << event.number)
        left += event.end is not None
        _untake(event)
        event = event.next
    return None


def _is_open(event: _Event | None) -> bool:
    """Whether it begins a step that was never answered."""
    return event is not None and event.step.returned is None


def _take(event: _Event) -> None:
    event.lift()
    if event.end is not None:
        event.end.lift()


def _untake(event: _Event) -> None:
    if event.end is not None:
        event.end.put_back()
    event.put_back()


def _listed(steps: list[Step]) -> _Event:
    """A list of beginnings and ends in the order of time; its head is no event."""
    timed: list[tuple[int, int, int, _Event]] = []
    for number, step in enumerate(steps):
        begin = _Event(step, number)
        timed.append((step.invoked, 0, number, begin))
        if step.returned is not None:
            begin.end = _Event(step, number)
            timed.append((step.returned, 1, number, begin.end))
    head = before = _Event(steps[0], -1)
    for *_, event in sorted(timed, key=lambda one: one[:3]):
        before.next, event.previous = event, before
        before = event
    return head
