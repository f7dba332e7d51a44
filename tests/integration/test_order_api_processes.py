"""The order API as processes: several workers, a coordinator and a shell on one store.

The hazards: a retry at another worker that is a second order, a live stream that gets
only the commits of its own worker, and a worker whose death takes an acknowledged order
with it or holds up the others.
"""

from __future__ import annotations

import http.client
import os
import signal
import threading
from itertools import count

import pytest

import eventbraid as eb
from eventbraid.examples.order_fulfilment.orders import CancelOrder
from eventbraid.examples.order_fulfilment.values import OrderId
from tests.peers import stopped_between_writes
from tests.web_workers import API, Client, Program, json_of, next_named, workers

# Each starts several interpreters, on machines that may have two busy cores.
pytestmark = pytest.mark.timeout(300)


@pytest.fixture
def location(tmp_path):
    return tmp_path / "shop.braid"


def orders_in(location):
    """Each order in the store, with how often it was submitted."""
    submitted: dict[str, int] = {}
    with eb.open(location) as store:
        for one in store.read_all(types=["order.submitted"]):
            submitted[one.stream] = submitted.get(one.stream, 0) + 1
    return submitted


def replayed(answer):
    return answer.headers.get("idempotency-replayed") == "true"


def test_a_retry_at_another_worker_is_a_replay(location):
    with workers(location, 4) as four:
        clients = [Client(worker.port) for worker in four]
        bodies = set()
        for number in range(40):
            first = clients[number % 4].place(f"k-{number}")
            again = clients[(number + 1) % 4].place(f"k-{number}")
            assert (first.status, again.status) == (201, 201)
            assert (replayed(first), replayed(again)) == (False, True)
            assert again.body == first.body
            bodies.add(first.body)
            other = clients[(number + 2) % 4].place(f"k-{number}", quantity=3)
            assert other.status == 422
            assert other.json["type"] == "/problems/idempotency-key-reused"
        assert len(bodies) == 40
        for client in clients:
            client.close()
        for worker in four:
            # The server ends as it should, then by the signal that it was sent.
            assert worker.ask_to_end() == -signal.SIGTERM
            worker.said("shutdown complete")
    assert sorted(orders_in(location).values()) == [1] * 40


def test_the_same_order_at_all_workers_at_once_is_taken_once(location):
    with workers(location, 4) as four:
        clients = [Client(worker.port) for worker in four]
        for number in range(25):
            answers = []
            together = threading.Barrier(4)

            def place(client, key=f"k-{number}", together=together, answers=answers):
                together.wait()
                answers.append(client.place(key))

            threads = [threading.Thread(target=place, args=(c,)) for c in clients]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            assert [answer.status for answer in answers] == [201] * 4
            assert sum(map(replayed, answers)) == 3
            assert len({answer.body for answer in answers}) == 1
        for client in clients:
            client.close()
    assert sorted(orders_in(location).values()) == [1] * 25


def test_a_stream_at_one_worker_tells_what_is_done_at_others(location):
    with (
        workers(location, 2) as (here, there),
        Client(there.port) as placing,
        Client(here.port) as following,
    ):
        events = placing.place("k-1").json["events"]
        stream = following.follow(events)
        assert next_named(stream).name == "submitted"
        # A third process, which knows nothing of the web.
        with eb.open(location) as store:
            eb.Executor(store).execute(
                CancelOrder(order=OrderId(events.split("/")[2]), reason="sold out")
            )
            cancelled = next_named(stream)
        assert cancelled.name == "cancelled"
        assert cancelled.data == {"reason": "sold out"}


def test_orders_are_fulfilled_and_followed_by_web_and_shell(location):
    with workers(location, 2) as (here, there):
        with Client(there.port) as client:
            events = client.place("before").json["events"]
        coordinator = Program("-m", f"{API}.coordinator", location, "--no-trouble")
        tail = Program(
            "-m", "eventbraid", "tail", location, "--follow", "--json", "-n", "1",
            "--type", "order.submitted", "--type", "order.completed",
        )  # fmt: skip
        with coordinator, tail, Client(there.port) as client:
            tail.said(r'"stream": ?"order-')
            # One that waited for the coordinator, and one that it waits for.
            with Client(here.port) as following:
                names = [event.name for event in following.follow(events) if event.name]
            coordinator.said("fulfilling orders")
            later = client.place("after").json["events"]
            with Client(here.port) as following:
                told = [event for event in following.follow(later) if event.name]
            shown = client.ask("GET", later.removesuffix("/events"))
            order = later.split("/")[2]
            tail.said(f'"{order}".*order.completed|order.completed.*"{order}"')
            assert coordinator.ask_to_end() == 0
        assert (names[0], names[-1]) == ("submitted", "ended")
        assert "completed" in names
        assert names == [event.name for event in told]
        assert shown.json["status"] == "completed"
        followed = [json_of(line) for line in tail.lines if line.startswith("{")]
        assert {one["stream"] for one in followed} == {order, events.split("/")[2]}


def test_a_coordinator_that_was_killed_goes_on_where_it_was(location):
    with workers(location, 1) as (worker,), Client(worker.port) as client:
        events = [client.place(f"k-{n}").json["events"] for n in range(30)]
        run = ("-m", f"{API}.coordinator", location, "--no-trouble")
        with Client(worker.port) as following, Program(*run) as coordinator:
            stream = following.follow(events[0])
            while next_named(stream).name != "completed":
                continue
            coordinator.kill()
        with Program(*run) as coordinator:
            # On a fast disk the first one has completed all orders, and this one would be
            # asked to end before it handles signals.
            coordinator.said("fulfilling orders")
            for each in events:
                with Client(worker.port) as following:
                    names = [e.name for e in following.follow(each) if e.name]
                assert names.count("completed") == 1
                assert names[-1] == "ended"
            assert coordinator.ask_to_end() == 0
    with eb.open(location) as store:
        started = [one.stream for one in store.read_all(types=["saga.started"])]
    assert len(started) == len(set(started)) == 30


def test_of_two_coordinators_the_second_goes_on_when_the_first_is_killed(location):
    run = ("-m", f"{API}.coordinator", location, "--no-trouble")
    with workers(location, 1) as (worker,), Client(worker.port) as client:

        def await_end(events):
            with Client(worker.port) as following:
                names = [event.name for event in following.follow(events) if event.name]
            assert names.count("completed") == 1
            assert names[-1] == "ended"

        with Program(*run) as first, Program(*run) as second:
            reader, standing_by = (
                (first, second) if _is_reader(first) else (second, first)
            )
            standing_by.said(r"reads the orders; this process only")
            await_end(client.place("k-1").json["events"])
            reader.kill()
            await_end(client.place("k-2").json["events"])
            standing_by.said("fulfilling orders after position")
            assert standing_by.ask_to_end() == 0
    with eb.open(location) as store:
        started = [one.stream for one in store.read_all(types=["saga.started"])]
        taken = list(store.read_stream("$lease-order-api-reader"))
    assert len(started) == len(set(started)) == 2
    assert [one.type for one in taken].count("lease.acquired") == 2


def test_a_reader_that_was_stopped_stands_by_when_it_goes_on(location):
    run = ("-m", f"{API}.coordinator", location, "--no-trouble")
    with (
        workers(location, 1) as (worker,),
        Client(worker.port) as client,
        Program(*run) as reader,
    ):
        reader.said("fulfilling orders after")
        with Program(*run) as other:
            other.said("only fulfils")
            with stopped_between_writes(reader.pid, location):
                other.said("fulfilling orders after")
            reader.said("another process reads the orders now")
            reader.said("only fulfils")
            events = client.place("k-1").json["events"]
            with Client(worker.port) as following:
                names = [e.name for e in following.follow(events) if e.name]
            assert names.count("completed") == 1
            assert reader.ask_to_end() == 0
            assert other.ask_to_end() == 0


def _is_reader(coordinator):
    (said, *_) = coordinator.said(r"fulfilling orders after|only fulfils")
    return "after" in said[0]


class Placing:
    """Clients that place orders until they are stopped, and record the answers."""

    def __init__(self) -> None:
        self.acknowledged: dict[str, str] = {}
        self.unanswered: set[str] = set()
        self.refused: list[bytes] = []
        self._numbers = count()
        self._answers = threading.Semaphore(0)
        self._over = threading.Event()
        self._threads: list[threading.Thread] = []

    def begin(self, port):
        thread = threading.Thread(target=self._place, args=(port,))
        self._threads.append(thread)
        thread.start()

    def wait_for(self, answers):
        for _ in range(answers):
            assert self._answers.acquire(timeout=60)

    def end(self):
        self._over.set()
        for thread in self._threads:
            thread.join(60)
            assert not thread.is_alive()

    def _place(self, port):
        with Client(port) as client:
            while not self._over.is_set():
                key = f"k-{next(self._numbers)}"
                try:
                    answer = client.place(key)
                except (OSError, http.client.HTTPException):
                    self.unanswered.add(key)
                    return
                if answer.status == 201:
                    self.acknowledged[key] = answer.json["order"]
                else:
                    self.refused.append(answer.body)
                self._answers.release()


def test_a_worker_that_is_killed_takes_no_acknowledged_order_with_it(location):
    placing = Placing()
    with workers(location, 4) as four:
        for worker in four * 3:
            placing.begin(worker.port)
        placing.wait_for(400)
        four[0].kill()
        # The others go on.
        placing.wait_for(400)
        placing.end()
        assert placing.refused == []
        # One a connection to the worker that was killed.
        assert len(placing.unanswered) == 3
        with Client(four[1].port) as other:
            for key, order in placing.acknowledged.items():
                again = other.place(key)
                assert (again.status, replayed(again)) == (201, True)
                assert again.json["order"] == order
            late = {other.place(key).json["order"] for key in placing.unanswered}
    expected = {*placing.acknowledged.values(), *late}
    assert orders_in(location) == dict.fromkeys(expected, 1)
    with eb.open(location) as store:
        assert store.verify().events == len(expected)


def test_the_server_replaces_a_dead_worker_and_ends_its_streams_when_asked(location):
    with Program("-m", API, location, "--port", "0", "--workers", "3") as server:
        port = int(server.said(r"running on http://127\.0\.0\.1:(\d+)")[0][1])
        server.said("startup complete", times=3)
        with Client(port) as client:
            events = client.place("k-1").json["events"]
        victim = server.said(r"Started server process \[(\d+)\]")[0][1]
        os.kill(int(victim), signal.SIGKILL)
        server.said("died")
        server.said("startup complete", times=4)
        with Client(port) as client:
            assert replayed(client.place("k-1"))
        following = [Client(port) for _ in range(6)]
        streams = [client.follow(events) for client in following]
        assert [next_named(stream).name for stream in streams] == ["submitted"] * 6
        # Long before the timeout of the server.
        assert server.ask_to_end() == 0
        assert [list(stream) for stream in streams] == [[]] * 6
        server.said("shutdown complete", times=3)
        assert not any("Traceback" in line or "ERROR" in line for line in server.lines)
        for client in following:
            client.close()
    assert list(orders_in(location).values()) == [1]


FORKED = """
import multiprocessing, sys
import uvicorn
# Imported before the fork, as a server does that loads the application first.
from eventbraid.examples.order_api.app import order_api

app = order_api(sys.argv[1])
fork = multiprocessing.get_context("fork")
workers = [fork.Process(target=uvicorn.run, args=(app,), kwargs={"port": 0})
           for _ in range(3)]
for worker in workers:
    worker.start()
for worker in workers:
    worker.join()
"""


def test_workers_may_be_forked_from_one_that_has_the_application(location):
    with Program("-c", FORKED, location) as server:
        running = server.said(r"running on http://127\.0\.0\.1:(\d+)", times=3)
        ports = [int(match[1]) for match in running]
        clients = [Client(port) for port in ports]
        first = clients[0].place("k-1")
        assert not replayed(first)
        for client in clients[1:]:
            again = client.place("k-1")
            assert replayed(again)
            assert again.body == first.body
        for client in clients:
            client.close()
    assert list(orders_in(location).values()) == [1]
