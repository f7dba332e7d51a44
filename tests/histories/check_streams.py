"""Check that each stream, by itself, is linearizable, without the log.

A stream is a list to which values are appended, under conditions on its length, and which
is read. The check searches for an order of its operations that agrees with real time and
with every result, by the algorithm of Wing and Gong with Lowe's memory of visited states.
An operation without a result may have happened at any time after its call, or never.

The check does not use positions, so a store whose log and results are wrong in the same
way does not pass.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass

from tests.histories.check_order import holds
from tests.histories.history import (
    Append,
    Expected,
    Finding,
    History,
    SnapshotRead,
    StreamRead,
    VersionRead,
)
from tests.histories.log import Contents

BY = "streams"

State = tuple[int, int, str]
"""The version of a stream, a digest of its values, and the last of them."""


@dataclass(frozen=True, slots=True)
class Step:
    """The part of an operation that concerns one stream.

    Attributes:
        what: A description.
        invoked: The time of the call.
        returned: The time of the result, if there is one.
        values: The appended values.
        expected: The expectation.
        failed: Whether the expectation failed.
        version: The version of the stream after the operation, from its result.
        digest: The digest of all values that a read returned.
        last: The last value that a read returned.
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
        """Return the state after the step, or `None` if its result is impossible."""
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
    """Search for an order for each stream.

    Args:
        history: The calls and their results.
        contents: The contents of the streams before.
    """
    contents = contents or {}
    findings = []
    for stream, steps in steps_of(history).items():
        first = contents.get(stream, Contents())
        state = (first.version, first.digest, first.last)
        unexplained = search(steps, state)
        if unexplained is not None:
            what = f"{unexplained.what}: {unexplained}"
            text = f"{stream} has no order that explains {what}"
            findings.append(Finding("wrong", BY, text))
    return findings


def steps_of(history: History) -> dict[str, list[Step]]:
    """Split the operations into their steps on each stream."""
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
        # The earlier values were not read. An empty result proves no version: the stream
        # may have been shorter.
        known = version if values else None
        return Step(what, *times, version=known, last=values[-1] if values else None)
    contents = Contents()
    for value in values:
        contents = contents.with_value(value)
    return Step(what, *times, version=version, digest=contents.digest)


def _once_each(appends: Iterable[Append]) -> Iterable[Append]:
    """Join the attempts of each append that was repeated."""
    repeated: defaultdict[tuple[str, str], list[Append]] = defaultdict(list)
    for append in appends:
        if append.commit is None or append.request.key is None:
            yield append
        else:
            repeated[append.request.key, append.commit].append(append)
    for attempts in repeated.values():
        if len(attempts) == 1:
            yield attempts[0]
        else:
            yield from _joined(attempts)


def _joined(attempts: list[Append]) -> Iterable[Append]:
    """Join attempts with one key to one append, from the first call to the first result."""
    yield from (append for append in attempts if append.refused is not None)
    others = [append for append in attempts if append.refused is None]
    if not others:
        return
    first = min(others, key=lambda append: append.invoked)
    done = [append for append in others if append.done is not None]
    answer = min((a.answer for a in done), key=lambda answer: answer.at, default=None)
    yield Append(first.process, first.request, answer)


def _of_append(append: Append) -> Iterable[tuple[str, Step]]:
    request = append.request
    values: defaultdict[str, list[str]] = defaultdict(list)
    for stream, value in request.events:
        values[stream].append(value)
    what, returned = str(append), append.returned
    if (refused := append.refused) is not None:
        named = {stream: actual for stream, _, actual in refused.failures}
        for stream, expected in request.expect.items() if named else ():
            actual = named.get(stream)
            failed = actual is not None
            step = Step(what, append.invoked, returned, (), expected, failed, actual)
            yield stream, step
        return
    if append.done is not None and append.done.replayed and not values:
        return
    versions = {} if append.done is None else append.done.versions
    for stream in values.keys() | request.expect.keys():
        expected = request.expect.get(stream, "any")
        more, version = tuple(values.get(stream, ())), versions.get(stream)
        if returned is None and not more:
            continue
        step = Step(what, append.invoked, returned, more, expected, version=version)
        yield stream, step


# --- the search


class _Event:
    """The beginning or the end of a step, in a list from which both can be removed."""

    __slots__ = ("end", "next", "number", "previous", "step")

    def __init__(self, step: Step, number: int) -> None:
        self.step = step
        self.number = number
        self.end: _Event | None = None
        self.previous: _Event | None = None
        self.next: _Event | None = None

    def remove(self) -> None:
        self.previous.next = self.next
        if self.next is not None:
            self.next.previous = self.previous

    def restore(self) -> None:
        self.previous.next = self
        if self.next is not None:
            self.next.previous = self


def search(steps: list[Step], state: State) -> Step | None:
    """Search for an order. Return a step that no order explains, or `None`."""
    head = _listed(steps)
    left = sum(step.returned is not None for step in steps)
    taken, tried = 0, set()
    path: list[tuple[_Event, State]] = []
    event, unexplained, longest = head.next, None, -1
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
        # The end of a step that was not taken, or of the list: an earlier choice was wrong.
        if event is not None and len(path) > longest:
            unexplained, longest = event.step, len(path)
        if not path:
            return unexplained or steps[0]
        event, state = path.pop()
        taken &= ~(1 << event.number)
        left += event.end is not None
        _untake(event)
        event = event.next
    return None


def _is_open(event: _Event | None) -> bool:
    """Whether the event begins a step without a result."""
    return event is not None and event.step.returned is None


def _take(event: _Event) -> None:
    event.remove()
    if event.end is not None:
        event.end.remove()


def _untake(event: _Event) -> None:
    if event.end is not None:
        event.end.restore()
    event.restore()


def _listed(steps: list[Step]) -> _Event:
    """Build the list of beginnings and ends in the order of time, after a head node."""
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
