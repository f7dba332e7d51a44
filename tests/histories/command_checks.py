"""All checks of the executions of commands against the log that they led to.

Rules 21 to 27 of the store's semantics, and the promises of cached states: a command
decides on the states at the versions that its append confirms, a session reads its own
writes, and no loaded state is older than one that was known before.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterable, Iterator
from itertools import accumulate, pairwise

from tests.histories.bank import ACCOUNTS, OPENING, Seen
from tests.histories.checks import BrokenPromiseError
from tests.histories.command_history import (
    CommandDone,
    CommandFailed,
    CommandHistory,
    Execution,
)
from tests.histories.command_log import BankLog, Entry
from tests.histories.history import Finding

EVENTS_OF = {
    "Transfer": 2,
    "GuardedTransfer": 2,
    "FoldedTransfer": 2,
    "Sweep": 3,
    "Audit": 0,
}


def check(history: CommandHistory, log: BankLog) -> list[Finding]:
    """Find every violation of a promise about commands."""
    known = KnownPositions(history, log)
    return [
        *check_decisions(log),
        *check_total(history, log, known),
        *check_results(history, log),
        *check_keys(history, log),
        *check_loads(history, log, known),
        *check_rejections(history, log, known),
    ]


def require_consistent(history: CommandHistory, log: BankLog) -> None:
    """Raise `BrokenPromiseError` if the history violates a promise about commands."""
    if findings := check(history, log):
        raise BrokenPromiseError("\n".join(map(str, findings[:20])))


class KnownPositions:
    """The positions of the log that were known to some process at each time.

    A result that arrived, and a state that was loaded, show that the log had a position.
    Every later read of any process must show at least this position.
    """

    def __init__(self, history: CommandHistory, log: BankLog) -> None:
        """Collect the results and the loaded states."""
        known: list[tuple[int, int]] = []
        for execution in history.executions:
            done = execution.done
            if done is not None and done.last is not None:
                known.append((done.at, done.last))
        for _, load in history.loads:
            _, stream, version, _ = load.seen
            if 0 < version <= len(log.streams[stream].positions):
                position = log.streams[stream].positions[version - 1]
                known.append((load.returned, position))
        known.sort()
        self._times = [time for time, _ in known]
        self._positions = list(accumulate((p for _, p in known), max))
        self._begun: dict[str, int] = {}
        for execution in history.executions:
            begun, name = execution.request.at, execution.request.id
            self._begun[name] = min(begun, self._begun.get(name, begun))

    def before(self, time: int) -> int:
        """Return the newest position that was known before a time."""
        index = bisect_right(self._times, time - 1)
        return self._positions[index - 1] if index else 0

    def begun(self, command: str) -> int:
        """Return the time before which a command can't have been committed."""
        return self._begun.get(command, 0)


def check_decisions(log: BankLog) -> Iterator[Finding]:
    """Rules 22 and 24: a decision is on the states that its append confirmed."""
    by = "decisions"
    for name, entries in log.commits.items():
        first = entries[0].position
        for seen in entries[0].event.seen:
            kind, stream, version, numbers = seen
            actual = log.streams[stream].version_at(first - 1) if stream else version
            if actual != version:
                text = f"{name} saw version {version} of {stream}, which had {actual}"
                yield Finding("wrong", by, text)
            elif not log.is_true(seen, entries[0].event.seen):
                text = f"{name} saw {numbers} as {kind} of {stream} at {version}"
                yield Finding("wrong", by, text)


def check_total(
    history: CommandHistory, log: BankLog, known: KnownPositions
) -> Iterator[Finding]:
    """No money is lost or made, at the end and as each audit sees it (rule 26)."""
    by, expected = "total", ACCOUNTS * OPENING
    for name, entries in log.commits.items():
        moved = sum(int(entry.event.amount) for entry in entries)
        if name != "opening" and moved:
            yield Finding("torn", by, f"{name} made {moved}")
    for execution in history.executions:
        done = execution.done
        if execution.request.kind != "Audit" or done is None:
            continue
        found = sum(numbers[0] for _, _, _, numbers in done.seen)
        if found != expected:
            yield Finding("wrong", by, f"{execution} counted {found}")
        yield from _as_of_one_position(execution, done.seen, done.at, log, known, by)


def check_results(history: CommandHistory, log: BankLog) -> Iterator[Finding]:
    """A result is that of the commit in the log, and a refused command has none."""
    by = "results"
    begun: defaultdict[str, list[Execution]] = defaultdict(list)
    for execution in history.executions:
        begun[execution.request.id].append(execution)
    for name in log.commits.keys() - begun.keys() - {"opening"}:
        yield Finding("wrong", by, f"{name} is in the log, but was never begun")
    for name, executions in begun.items():
        entries = log.commits.get(name, [])
        expected = EVENTS_OF[executions[0].request.kind]
        if entries and (len(entries) != expected or not _are_adjacent(entries)):
            text = f"{name} has {len(entries)} events, expected {expected} in a row"
            yield Finding("torn", by, text)
        if not entries and any(one.done for one in executions) and expected:
            yield Finding("lost", by, f"{name} was done, but isn't in the log")
        if entries and all(map(_is_refused, executions)):
            yield Finding("wrong", by, f"{name} was refused, but is in the log")
        for execution in executions:
            done = execution.done
            if done is not None and entries and not _is_result_of(done, entries):
                text = f"{execution} was {done}, and the log has {entries}"
                yield Finding("wrong", by, text)


def _are_adjacent(entries: list[Entry]) -> bool:
    return all(b.position == a.position + 1 for a, b in pairwise(entries))


def _is_refused(execution: Execution) -> bool:
    answer = execution.answer
    if isinstance(answer, CommandFailed):
        return answer.kind != "OutcomeUnknown"
    return execution.rejected is not None


def _is_result_of(done: CommandDone, entries: list[Entry]) -> bool:
    versions = {entry.stream: entry.version for entry in entries}
    span = entries[0].position, entries[-1].position
    return (done.first, done.last) == span and done.versions == versions


def check_keys(history: CommandHistory, log: BankLog) -> Iterator[Finding]:
    """Rule 25: a keyed command is executed once, and every repetition gets its result."""
    by = "keys"
    keyed: defaultdict[str, list[Execution]] = defaultdict(list)
    for execution in history.executions:
        if execution.request.key is not None:
            keyed[execution.request.key].append(execution)
    for key, executions in keyed.items():
        done = [one for one in executions if one.done is not None]
        originals = sum(not one.done.replayed for one in done)
        commits = len(log.commits.get(executions[0].request.id, [])) / 2
        if originals > 1 or commits > 1:
            text = f"{key} was executed {originals} times, in {commits} commits"
            yield Finding("wrong", by, text)
        results = {(one.done.first, one.done.last) for one in done}
        if len(results) > 1:
            yield Finding("wrong", by, f"{key} has the results {sorted(results)}")
        if not done:
            continue
        known_at = min(one.done.at for one in done)
        for one in executions:
            is_later = one.request.at > known_at and one.answer is not None
            if is_later and (one.done is None or not one.done.replayed):
                yield Finding("wrong", by, f"{one} is no replay: {one.answer}")


def check_loads(
    history: CommandHistory, log: BankLog, known: KnownPositions
) -> Iterator[Finding]:
    """A loaded state is true, and not older than what was known before the load."""
    by = "loads"
    for process, load in history.loads:
        kind, stream, version, numbers = load.seen
        states = log.streams[stream]
        if not log.is_true(load.seen):
            text = f"{process} loaded {numbers} as {kind} of {stream} at {version}"
            yield Finding("wrong", by, text)
            continue
        needed = states.version_at(known.before(load.invoked))
        if version < needed:
            text = f"{process} loaded version {version} of {stream}, not {needed}"
            yield Finding("wrong", by, text)
        if version and known.begun(states.commands[version - 1]) > load.returned:
            text = f"{process} loaded version {version} of {stream} before its command"
            yield Finding("wrong", by, text)


def check_rejections(
    history: CommandHistory, log: BankLog, known: KnownPositions
) -> Iterator[Finding]:
    """Rule 24: a rejection is of states that the streams had during the execution."""
    for execution in history.executions:
        rejected = execution.rejected
        if rejected is not None:
            yield from _as_of_one_position(
                execution, rejected.seen, rejected.at, log, known, "rejections"
            )


def _as_of_one_position(
    execution: Execution,
    states: Iterable[Seen],
    returned: int,
    log: BankLog,
    known: KnownPositions,
    by: str,
) -> Iterator[Finding]:
    """Compare states with the log, of one position after the begin of an execution."""
    states = list(states)
    first, last = 0, known.before(1 << 62)
    for seen in states:
        if not log.is_true(seen, states):
            yield Finding("wrong", by, f"{execution} saw {seen}")
            return
        _, stream, version, _ = seen
        if stream:
            since, until = log.streams[stream].span(version)
            first, last = max(first, since), min(last, until)
            commands = log.streams[stream].commands
            if version and known.begun(commands[version - 1]) > returned:
                yield Finding("wrong", by, f"{execution} saw {seen} before its command")
    if first > last:
        yield Finding("wrong", by, f"{execution} saw states of two moments: {states}")
    elif last < known.before(execution.request.at):
        yield Finding("wrong", by, f"{execution} saw outdated states: {states}")
