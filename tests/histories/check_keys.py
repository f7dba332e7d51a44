"""Check that an idempotency key has one effect, and that replays equal the original."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator

from tests.histories.history import Append, Finding, History
from tests.histories.log import Log

BY = "keys"


def check_keys(history: History, log: Log) -> list[Finding]:
    """Compare all results with one key with each other and with the log."""
    keyed: defaultdict[str, list[Append]] = defaultdict(list)
    for append in history.appends:
        if append.request.key is not None:
            keyed[append.request.key].append(append)
    return [
        finding
        for key, appends in keyed.items()
        for finding in _of_key(key, appends, log)
    ]


def _of_key(key: str, appends: list[Append], log: Log) -> Iterator[Finding]:
    done = [append for append in appends if append.done is not None]
    originals = [append for append in done if not append.done.replayed]
    if len(originals) > 1:
        yield Finding("wrong", BY, f"key {key} was done {len(originals)} times")
    answers = {_answer(append) for append in done}
    if len(answers) > 1:
        yield Finding("wrong", BY, f"key {key} was answered {sorted(answers)}")
    if len({append.request.events for append in done}) > 1:
        yield Finding("wrong", BY, f"key {key} was answered for two contents")
    yield from _in_the_log(key, appends, log)
    yield from _without_original(key, appends)
    yield from _after_first_result(key, appends, log)


def _answer(append: Append) -> str:
    done = append.done
    return f"{done.first} to {done.last}, {sorted(done.versions.items())}"


def _in_the_log(key: str, appends: list[Append], log: Log) -> Iterator[Finding]:
    commits = {append.commit for append in appends} & log.named.keys()
    if len(commits) > 1:
        yield Finding("wrong", BY, f"key {key} is in {sorted(commits)}")


def _without_original(key: str, appends: list[Append]) -> Iterator[Finding]:
    """A replay needs an original that was called before the replay returned."""
    for append in appends:
        if append.done is None or not append.done.replayed:
            continue
        earlier = [
            other
            for other in appends
            if other is not append
            and other.invoked <= append.answer.at
            and other.request.events == append.request.events
            and other.refused is None
        ]
        if not earlier:
            yield Finding("wrong", BY, f"{append} is a replay of nothing")


def _after_first_result(key: str, appends: list[Append], log: Log) -> Iterator[Finding]:
    """After the first result of a key, the same content must be a replay, and other content refused."""
    answered = [append for append in appends if append.done is not None]
    if not answered:
        return
    first = min(answered, key=lambda append: append.answer.at)
    for append in appends:
        if append.invoked <= first.answer.at:
            continue
        same = (append.request.events, append.request.expect) == (
            first.request.events,
            first.request.expect,
        )
        if append.refused is not None:
            kind = append.refused.kind
            if same and kind in {"VersionConflict", "IdempotencyMismatch"}:
                text = f"{append} was refused ({kind}) after key {key} was answered"
                yield Finding("wrong", BY, text)
        elif append.done is not None and not (same and append.done.replayed):
            yield Finding(
                "wrong", BY, f"{append} was done after key {key} was answered"
            )
