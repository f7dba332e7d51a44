"""`eventbraid saga`: the sagas of a store, and those that need a decision."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict
from typing import NamedTuple

import click

import eventbraid as eb
from eventbraid.cli._exit import Exit
from eventbraid.cli._opening import open_store
from eventbraid.cli._options import json_option
from eventbraid.cli._store_choice import Others, store_argument

_STARTED = "saga.started"
_DEFECT = "saga.blocked"
_BLOCKED = "blocked"
_STATUS_OF = {
    _STARTED: "running",
    "saga.compensation_started": "compensating",
    "saga.stuck": "stuck",
    "saga.retried_by_hand": "running",
    "saga.skipped_by_hand": "running",
    "saga.completed": "completed",
    "saga.compensated": "compensated",
}
_STATUSES = sorted({*_STATUS_OF.values(), _BLOCKED})
# Those of sagas that may be blocked.
_UNDER_WAY = frozenset({"running", "compensating"})
_LIST_FIELDS = (
    "Print JSON, one saga per line: saga_id, status; of a blocked saga also reason."
)
_STUCK_FIELDS = (
    "Print JSON, one saga per line: saga_id, saga, failure; or saga_id, error."
)
_SHOW_FIELDS = (
    "Print one JSON object: saga_id, saga, version, status, outcome, failure, steps, "
    "entries (time, what, step, attempt, detail, position, type, "
    "traceback)."
)


@click.group()
def saga() -> None:
    """Show sagas: the timeline of one, the list of all, those that are stuck."""


@saga.command()
@store_argument(Others("identifier", "ID", exactly_one=True))
@json_option(_SHOW_FIELDS)
def show(*, location: str, identifier: str, as_json: bool) -> Exit:
    """Print the timeline of one saga.

    ID is the saga's id, as `eventbraid saga list` prints it.
    """
    from eventbraid.cli._output import output
    from eventbraid.cli._timeline_table import print_timeline

    with open_store(location) as store:
        timeline = eb.saga.read_timeline(store, identifier)
    if as_json:
        with output() as out:
            out.json(asdict(timeline))
    else:
        print_timeline(timeline)
    return Exit.OFF if timeline.outcome is eb.SagaOutcome.STUCK else Exit.FINE


@saga.command("list")
@store_argument()
@click.option(
    "--status",
    type=click.Choice(_STATUSES),
    help="Only sagas of this status.",
)
@click.option(
    "--limit",
    type=click.IntRange(min=0),
    default=20,
    show_default=True,
    help="The maximum number of sagas to name.",
)
@json_option(_LIST_FIELDS)
def list_(*, location: str, status: str | None, limit: int, as_json: bool) -> Exit:
    """Count the sagas by status, and name some.

    A saga is blocked if no coordinator that was running could drive it: none had its
    code, or the code of a step has a defect. The line of a blocked saga has the reason,
    and whether the saga is overdue.
    """
    from eventbraid.cli._output import output, printable

    with open_store(location) as store:
        found = _listed(store)
    chosen = [s for s, one in found.items() if status in {None, one.status}]
    with output() as out:
        if as_json:
            for saga_id in chosen[:limit]:
                one = found[saga_id]
                facts = {"reason": one.reason} if one.reason else {}
                out.json({"saga_id": saga_id, "status": one.status, **facts})
            return Exit.FINE
        counts = Counter(one.status for one in found.values())
        for name, count in sorted(counts.items()):
            out.line(f"{count:>9,} {name}")
        for saga_id in chosen[:limit]:
            one = found[saga_id]
            reason = f"  {printable(one.reason)}" if one.reason else ""
            out.line(f"{printable(saga_id)}  {one.status}{reason}")
        if len(chosen) > limit:
            out.line(f"and {len(chosen) - limit:,} more; name them with --limit")
    return Exit.FINE


@saga.command()
@store_argument()
@json_option(_STUCK_FIELDS)
def stuck(*, location: str, as_json: bool) -> Exit:
    """List the sagas that need a decision; exit code 1 if there are any."""
    from eventbraid.cli._output import output, printable

    count = 0
    with open_store(location) as store, output() as out:
        for saga_id, name in _statuses(store).items():
            if name != "stuck":
                continue
            count += 1
            facts = _stuck_facts(store, saga_id)
            if as_json:
                out.json({"saga_id": saga_id, **facts})
            else:
                text = facts.get("error") or f"{facts['saga']}: {facts['failure']}"
                out.line(f"{printable(saga_id)}  {printable(text)}")
        if not count and not as_json:
            out.line("no saga is stuck")
    return Exit.OFF if count else Exit.FINE


def _stuck_facts(store: eb.EventStore, saga_id: str) -> dict[str, str]:
    """Return the facts for a decision, or an error if the saga can't be read."""
    try:
        timeline = eb.saga.read_timeline(store, saga_id)
    except eb.EventbraidError as error:
        return {"error": f"its records can't be read: {error}"}
    return {"saga": timeline.saga, "failure": timeline.failure or ""}


class _Listed(NamedTuple):
    status: str
    reason: str = ""


def _listed(store: eb.EventStore) -> dict[str, _Listed]:
    """Return each saga's status, and for those that are blocked the reason."""
    from eventbraid.saga._blocked_sagas import read_blocked

    statuses, defective = _transitions(store)
    under_way = {s for s, name in statuses.items() if name in _UNDER_WAY}
    blocked = read_blocked(store, under_way, under_way & defective)
    return {
        saga_id: _Listed(_BLOCKED, blocked[saga_id])
        if saga_id in blocked
        else _Listed(name)
        for saga_id, name in statuses.items()
    }


def _statuses(store: eb.EventStore) -> dict[str, str]:
    """Return each saga's status by its last transition."""
    return _transitions(store)[0]


def _transitions(store: eb.EventStore) -> tuple[dict[str, str], set[str]]:
    """Return each saga's status by its last transition, and those with a defect.

    A stream is a saga's if its first event started one: an application may use the same
    names of types in streams of its own.
    """
    statuses: dict[str, str] = {}
    defective: set[str] = set()
    for recorded in store.read_all(types=[*_STATUS_OF, _DEFECT]):
        if recorded.type == _DEFECT:
            defective.add(recorded.stream)
            continue
        starts = recorded.type == _STARTED and recorded.version == 1
        if starts or recorded.stream in statuses:
            statuses[recorded.stream] = _STATUS_OF[recorded.type]
    return statuses, defective
