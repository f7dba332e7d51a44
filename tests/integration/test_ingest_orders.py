"""The bulk load: everything once, whatever happens in between, and it says so."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys

import anyio
import pytest

import eventbraid as eb
from eventbraid.examples.ingest_orders.history import KEY, Plan, stream_of
from eventbraid.examples.ingest_orders.load import load
from eventbraid.examples.ingest_orders.read_back import read_back
from eventbraid.examples.order_fulfilment.purchases import CENTS, CUSTOMERS, purchases


def ingest(*arguments, **options):
    return subprocess.run(
        [sys.executable, "-m", "eventbraid.examples.ingest_orders", *arguments],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
        **options,
    )


def run_load(store, plan, *, in_flight=8, acknowledge=lambda commit: None):
    async def main():
        return await load(
            store.as_async(), plan, in_flight=in_flight, acknowledge=acknowledge
        )

    return anyio.run(main)


@pytest.fixture
def store():
    with eb.open("memory:") as opened:
        yield opened


@pytest.fixture
def plan():
    return Plan(purchases()[:500], commit_size=7)


def nothing():
    """Do nothing."""


def test_every_purchase_becomes_one_event_in_its_customers_stream(tmp_path):
    done = ingest(str(tmp_path / "all"), "--json")
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert report["loaded"]["events"] == 69_659
    assert report["loaded"]["commits"] == 70
    assert report["found"]["streams"] == CUSTOMERS
    assert report["found"]["cents"] == CENTS
    assert report["found"]["findings"] == []
    assert report["bytes_per_event"] > 50
    assert report["events_per_second"] > 0
    with eb.open(tmp_path / "all", create=False) as store:
        assert store.head() == 69_659
        assert sum(1 for _ in store.streams()) == CUSTOMERS


def test_purchases_stand_in_the_log_in_their_order(store, plan):
    run_load(store, plan)
    numbers = [json.loads(event.data)["number"] for event in store.read_all()]
    assert numbers == list(range(1, 501))


def test_a_second_load_stores_nothing(store, plan):
    first = run_load(store, plan)
    again = run_load(store, plan)
    assert (first.commits, first.events, first.commits_before) == (72, 500, 0)
    assert (again.commits, again.events, again.commits_before) == (0, 0, 72)
    assert store.head() == 500


def test_a_load_that_was_stopped_goes_on_where_it_was(store, plan):
    class PulledOut(Exception):
        pass

    seen = []

    def stop_after_ten(commit):
        seen.append(commit.number)
        if len(seen) == 10:
            raise PulledOut

    with pytest.raises(PulledOut):
        run_load(store, plan, acknowledge=stop_after_ten)
    # The store commits the appends of a process in their order. So the answer to this
    # empty append shows that the appends in flight, which were cancelled, have ended.
    store.append([], expect={"nothing": eb.NO_STREAM})
    there = store.head()
    assert 70 <= there < 500
    rest = run_load(store, plan)
    assert rest.commits_before * 7 == there
    assert rest.events == 500 - there
    assert read_back(store, plan.purchases, advance=nothing).findings == []


def test_each_commit_is_acknowledged_when_it_is_durable(store, plan):
    def must_be_there(commit):
        done = store.committed(commit.key)
        assert done is not None
        assert done.last_position <= store.head()

    run_load(store, plan, acknowledge=must_be_there)


@pytest.mark.parametrize("other", [Plan(purchases()[:500], 8), Plan(purchases()[:499], 7)])  # fmt: skip
def test_another_plan_is_refused_before_anything_is_stored(store, plan, other):
    run_load(store, Plan(plan.purchases, plan.commit_size))
    with pytest.raises(eb.errors.IdempotencyMismatch):
        run_load(store, other)
    assert store.head() == 500


def test_a_failed_append_is_raised_as_itself(store, plan):
    store.append([(stream_of(plan.purchases[0].customer), "someone.else", b"{}")])
    with pytest.raises(eb.VersionConflict):
        run_load(store, plan)


def test_reading_back_finds_what_is_missing_and_what_is_too_much(store, plan):
    run_load(store, plan)
    more = purchases()[:501]
    findings = read_back(store, more, advance=nothing).findings
    assert any("expected" in finding for finding in findings)
    assert any("cost" in finding for finding in findings)
    assert any("customers have a stream" in finding for finding in findings)


def test_the_acknowledged_numbers_are_written_into_a_file(tmp_path):
    journal = tmp_path / "acks"
    done = ingest(
        *(str(tmp_path / "s"), "--limit", "100", "--commit-size", "9"),
        *("--acks", str(journal)),
    )
    assert done.returncode == 0, done.stderr
    assert journal.read_text().split() == [str(number) for number in range(1, 13)]


def test_with_acknowledgements_on_standard_output_nothing_else_is_there(tmp_path):
    done = ingest(str(tmp_path / "s"), "--limit", "3", "--commit-size", "1", "--acks", "-")  # fmt: skip
    assert done.stdout == "1\n2\n3\n"
    assert "worth $" in done.stderr


def test_people_see_what_was_done_and_what_was_there_before(tmp_path):
    arguments = (str(tmp_path / "s"), "--limit", "1000", "--commit-size", "100")
    first, again = ingest(*arguments), ingest(*arguments)
    assert "events/s" in first.stdout
    assert "loading purchases" in first.stderr
    assert "there before" not in first.stdout
    assert "there before" in again.stdout
    assert "events/s" not in again.stdout


def test_exit_codes(tmp_path):
    store = str(tmp_path / "s")
    assert ingest(store, "--limit", "10").returncode == 0
    other = ingest(store, "--limit", "10", "--commit-size", "3")
    assert other.returncode == 2
    assert "--commit-size" in other.stderr
    assert ingest(store, "--commit-size", "0").returncode == 2
    assert ingest(store, "--limit", "70000").returncode == 2
    assert ingest().returncode == 2
    with eb.open(store, mode="exclusive"):
        busy = ingest(store, "--limit", "10")
    assert busy.returncode == 3
    assert str(os.getpid()) in busy.stderr
    for done in (other, busy):
        assert "Traceback" not in done.stderr


def test_wrong_streams_are_told_with_exit_code_1(tmp_path):
    store = str(tmp_path / "s")
    assert ingest(store, "--limit", "10").returncode == 0
    with eb.open(store) as opened:
        [first] = opened.read_all(limit=1)
        opened.append([(first.stream, first.type, first.data)])
    done = ingest(store, "--limit", "10")
    assert done.returncode == 1
    assert f"WRONG: {first.stream} has 2 purchases, expected 1" in done.stdout


def test_ctrl_c_says_how_to_go_on(tmp_path):
    arguments = [str(tmp_path / "s"), "--commit-size", "1", "--in-flight", "1"]
    with subprocess.Popen(
        [
            sys.executable,
            "-m",
            "eventbraid.examples.ingest_orders",
            *arguments,
            "--acks",
            "-",
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        process.stdout.readline()
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert "nothing is lost" in err
    assert "Traceback" not in err


def test_the_key_of_the_load_is_kept_without_an_event(store, plan):
    run_load(store, plan)
    done = store.committed(KEY)
    assert done is not None
    assert done.first_position is None
