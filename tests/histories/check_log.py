"""Check that the log contains every acknowledged commit in its place, and nothing else."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from tests.histories.history import Append, Entry, Finding, History, place_of
from tests.histories.log import Log

BY = "log"


def check_log(history: History, log: Log) -> list[Finding]:
    """Compare the log with every append that was called.

    Positions and versions are dense. Every commit is complete, with adjacent events in
    order, and is in the log once. An acknowledged commit is at the position of its result.
    A commit that was refused, or never called, is not in the log.
    """
    return [
        *_gaps(log),
        *_torn(history, log),
        *_misplaced(history, log),
        *_unexpected(history, log),
    ]


def _gaps(log: Log) -> Iterator[Finding]:
    versions: dict[str, int] = {}
    for place, entry in enumerate(log.entries, start=log.base + 1):
        if entry.position != place:
            yield Finding("wrong", BY, f"{entry} is at place {place}")
        known = versions.get(entry.stream, log.base_version(entry.stream))
        if entry.version != known + 1:
            yield Finding("wrong", BY, f"{entry} follows version {known}")
        versions[entry.stream] = entry.version


def _torn(history: History, log: Log) -> Iterator[Finding]:
    wanted = {append.commit: append.request.events for append in history.appends}
    for commit in log.commits:
        places = [place_of(entry.value) for entry in commit.entries]
        count = places[0][1]
        if places != [(index, count) for index in range(count)]:
            yield Finding("torn", BY, f"commit {commit.name} contains {places}")
            continue
        found = tuple((entry.stream, entry.value) for entry in commit.entries)
        if found != wanted.get(commit.name, found):
            yield Finding("torn", BY, f"commit {commit.name} contains {found}")
    for name, times in Counter(commit.name for commit in log.commits).items():
        if times > 1:
            yield Finding("torn", BY, f"commit {name} is in {times} places")


def _misplaced(history: History, log: Log) -> Iterator[Finding]:
    for append in history.appends:
        if append.done is None or not append.request.events:
            continue
        if (first := append.done.first) is not None and first <= log.base:
            continue  # A replay of a commit in an earlier part of the log.
        commit = log.named.get(append.commit)
        if commit is None:
            yield Finding(
                "lost", BY, f"{append} was acknowledged and is not in the log"
            )
        elif (result := _result(append)) != (
            actual := (commit.first, commit.last, commit.versions())
        ):
            yield Finding("wrong", BY, f"{append} returned {result}, is at {actual}")


def _result(append: Append) -> tuple[int | None, int | None, dict[str, int]]:
    return append.done.first, append.done.last, append.done.versions


def _unexpected(history: History, log: Log) -> Iterator[Finding]:
    attempts: dict[str | None, list[Append]] = {}
    for append in history.appends:
        attempts.setdefault(append.commit, []).append(append)
    for commit in log.commits:
        calls = attempts.get(commit.name, [])
        if not calls:
            yield Finding("wrong", BY, f"commit {commit.name} was never called")
        elif all(append.refused is not None for append in calls):
            kinds = {append.refused.kind for append in calls}
            text = f"commit {commit.name} was refused ({kinds}) and is in the log"
            yield Finding("wrong", BY, text)


def differences(seen: list[Entry] | tuple[Entry, ...], log: Log) -> Iterator[str]:
    """Return the events of a read that differ from the log."""
    for entry in seen:
        if entry.position <= log.base:
            continue
        if (actual := log.entry(entry.position)) != entry:
            yield f"{entry} was read, the log has {actual}"
