"""A bulk load that is killed at random moments loses and tears nothing.

The hazard: with many commits in flight some are acknowledged, some are on the disk
without anyone knowing, and one is half written when the process dies.

`EVENTBRAID_KILLS=200` kills more often; `tests/failure/kill_ingest.py` does it by hand.
"""

from __future__ import annotations

import os

import pytest

import eventbraid as eb
from eventbraid.examples.ingest_orders.history import Plan
from eventbraid.examples.order_fulfilment.purchases import purchases
from tests.failure.kill_ingest import Load, check, kill_and_check

KILLS = int(os.environ.get("EVENTBRAID_KILLS", "50"))


@pytest.mark.timeout(120 + 20 * KILLS)
def test_a_load_that_is_killed_repeatedly_loses_and_tears_nothing(tmp_path, capfd):
    tally = kill_and_check(
        tmp_path, kills=KILLS, commit_sizes=[1000, 10, 1], limit=20_000, seed=KILLS
    )
    output = capfd.readouterr().out
    assert tally.code == 0, output
    assert tally.kills == KILLS
    assert tally.acknowledged > 0


# --- the checks find what they are for


@pytest.fixture
def load(tmp_path):
    """A load of two commits of three purchases, the first of which is stored."""
    loaded = Load(tmp_path / "store", commit_size=3, limit=6, acknowledged={1})
    first, _ = Plan(purchases()[:6], commit_size=3).commits()
    with eb.open(loaded.store) as store:
        store.append(first.events, idempotency_key=first.key)
    return loaded


def test_an_acknowledged_commit_in_the_log_has_no_finding(load):
    found = check(load)
    assert (found.commits, found.events) == (1, 3)
    assert not found.lost + found.torn + found.wrong


def test_an_acknowledged_commit_that_is_not_in_the_log_is_lost(load):
    load.acknowledged.add(2)
    assert check(load).lost == ["commit 2 was acknowledged and is not in the log"]


def test_half_a_commit_is_torn(load):
    _, second = Plan(purchases()[:6], commit_size=3).commits()
    with eb.open(load.store) as store:
        store.append(second.events[:2], idempotency_key=second.key)
    assert any("commit 2" in finding for finding in check(load).torn)


def test_a_commit_in_two_places_is_torn(load):
    first, second = Plan(purchases()[:6], commit_size=3).commits()
    with eb.open(load.store) as store:
        store.append(second.events, idempotency_key=second.key)
        store.append(first.events)
    found = check(load)
    assert any("and elsewhere" in finding for finding in found.torn)
    assert any("key 1 stands for" in finding for finding in found.wrong)


def test_a_commit_without_its_key_is_wrong(load):
    _, second = Plan(purchases()[:6], commit_size=3).commits()
    with eb.open(load.store) as store:
        store.append(second.events)
    assert check(load).wrong == ["key 2 stands for None, log: (4, 6)"]


def test_a_missing_store_has_lost_the_acknowledged_commits(load, tmp_path):
    load.store = tmp_path / "nowhere"
    assert len(check(load).lost) == 1
