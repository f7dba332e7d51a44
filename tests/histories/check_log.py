"""Is the log itself what was acknowledged, whole and in place, and nothing else?"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from tests.histories.log import Log
from tests.histories.history import Append, Entry, Finding, History, place_of

BY = "log"


def check_log(history: History, log: Log) -> list[Finding]:
    """Hold the log against every append that was asked for.

    Positions and versions are dense. Every commit is whole, its events adjacent and in
    order, and stands once. What was acknowledged stands where the answer said. What was
    refused, or never asked for, stands nowhere.
    """
    return [
        *_gaps(log),
        *_torn(history, log),
        *_unplaced(history, log),
        *_uninvited(history, log),
    ]


def _gaps(log: Log) -> Iterator[Finding]:
    versions: dict[str, int] = {}
    for place, entry in enumerate(log.entries, start=log.base + 1):
        if entry.position != place:
            yield Finding("wrong", BY, f"{entry} stands at place {place}")
        known = versions.get(entry.stream, log.base_version(entry.stream))
        if entry.version != known + 1:
            yield Finding("wrong", BY, f"{entry} comes after version {known}")
        versions[entry.stream] = entry.version


def _torn(history: History, log: Log) -> Iterator[Finding]:
    wanted = {append.commit: append.asked.events for append in history.appends}
    for commit in log.commits:
        places = [place_of(entry.value) for entry in commit.entries]
        count = places[0][1]
        if places != [(index, count) for index in range(count)]:
            yield Finding("torn", BY, f"commit {commit.name} holds {places}")
            continue
        found = tuple((entry.stream, entry.value) for entry in commit.entries)
        if found != wanted.get(commit.name, found):
            yield Finding("torn", BY, f"commit {commit.name} holds {found}")
    for name, times in Counter(commit.name for commit in log.commits).items():
        if times > 1:
            yield Finding("torn", BY, f"commit {name} stands in {times} places")


def _unplaced(history: History, log: Log) -> Iterator[Finding]:
    for append in history.appends:
        if append.done is None or not append.asked.events:
            continue
        if (first := append.done.first) is not None and first <= log.base:
            continue  # A replay of what stands in an earlier part of the log.
        there = log.named.get(append.commit)
        if there is None:
            yield Finding("lost", BY, f"{append} was acknowledged and is not there")
        elif (told := _told(append)) != (
            stands := (there.first, there.last, there.versions())
        ):
            yield Finding("wrong", BY, f"{append} was told {told}, stands at {stands}")


def _told(append: Append) -> tuple[int | None, int | None, dict[str, int]]:
    return append.done.first, append.done.last, append.done.versions


def _uninvited(history: History, log: Log) -> Iterator[Finding]:
    attempts: dict[str | None, list[Append]] = {}
    for append in history.appends:
        attempts.setdefault(append.commit, []).append(append)
    for commit in log.commits:
        asked = attempts.get(commit.name, [])
        if not asked:
            yield Finding("wrong", BY, f"commit {commit.name} was never asked for")
        elif all(append.refused is not None for append in asked):
            kinds = {append.refused.kind for append in asked}
            what = f"commit {commit.name} was refused ({kinds}) and is there"
            yield Finding("wrong", BY, what)


def differences(seen: list[Entry] | tuple[Entry, ...], log: Log) -> Iterator[str]:
    """Events that somebody saw and that stand otherwise in the log."""
    for entry in seen:
        if entry.position <= log.base:
            continue
        if (stands := log.entry(entry.position)) != entry:
            yield f"{entry} was seen, the log has {stands}"
