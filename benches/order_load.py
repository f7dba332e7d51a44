"""The orders a second that the order API accepts durably, and then fulfils.

    python benches/order_load.py --seconds 10

The load comes from wrk (Debian: `apt-get install wrk`), a process of its own. Its share
of the processor is printed, because it runs on the same cores as the server. No order
is fulfilled under load; afterwards the coordinator starts and fulfils the waiting
orders. The responses are compared with the content of the store.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import click

import eventbraid as eb
from eventbraid.cli.bench._machine import describe_machine

API = "eventbraid.examples.order_api"
TARGET = 3_000
RETRY_EVERY = 10
LUA = Path(__file__).with_name("orders.lua")
ENDS = ("saga.completed", "saga.compensated")
WAIT_SECONDS = 60


@dataclass(frozen=True)
class Load:
    """The measurements of wrk.

    Attributes:
        seconds: The duration of the load.
        p50: The median of the seconds from request to response.
        p99: Their 99th percentile.
        longest: Their maximum.
        orders: The number of orders sent, without retries.
        retries: The number of orders sent again.
        created: The number of responses that acknowledged a new order.
        replayed: The number of responses marked as replays.
        refused: The number of all other responses.
        unconnected: The number of connections that failed.
        broken: The number of connections that broke.
        late: The number of responses that took longer than two seconds.
        first_refusal: The first of the other responses.
        client: The share of one core that wrk used.
        workers: The share of one core that all workers used together.
    """

    seconds: float
    p50: float
    p99: float
    longest: float
    orders: int
    retries: int
    created: int
    replayed: int
    refused: int
    unconnected: int
    broken: int
    late: int
    first_refusal: str
    client: float
    workers: float

    @property
    def rate(self) -> float:
        """New orders a second; replays don't count."""
        return self.created / self.seconds

    @property
    def errors(self) -> int:
        return self.refused + self.unconnected + self.broken + self.late


@dataclass(frozen=True)
class Drain:
    """The work of the coordinator.

    Attributes:
        orders: The number of orders that it completed or compensated.
        seconds: The seconds that this took.
        left: The number of orders that were left.
    """

    orders: int
    seconds: float
    left: int

    @property
    def rate(self) -> float:
        return self.orders / max(self.seconds, 1e-9)


@click.command()
@click.option("--workers", default=4, show_default=True)
@click.option("--connections", default=64, show_default=True)
@click.option(
    "--seconds", default=10.0, show_default=True, help="Duration of the load."
)
@click.option(
    "--drain", default=10.0, show_default=True, help="Duration of fulfilment."
)
@click.option(
    "--disk",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    default=Path(),
    help="A directory on the disk to be measured.  [default: the current one]",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def main(
    *,
    workers: int,
    connections: int,
    seconds: float,
    drain: float,
    disk: Path,
    as_json: bool,
) -> None:
    """Load the order API with wrk, then fulfil the orders with the coordinator."""
    load, kept, drained = measure(
        disk, workers=workers, connections=connections, seconds=seconds, drain=drain
    )
    if as_json:
        facts = {**asdict(load), "kept": kept, "drain": asdict(drained)}
        print(json.dumps(facts))
    else:
        print(describe_machine(disk))
        print(f"{workers} workers, {connections} connections, {load.seconds:.1f} s")
        print("\n".join(lines_of(load, kept, drained)))
    sys.exit(faults_of(load, kept) != [])


def measure(
    disk: Path, *, workers: int, connections: int, seconds: float, drain: float
) -> tuple[Load, int, Drain]:
    """Measure in a new directory, which is removed afterwards.

    Returns:
        The load, the number of orders in the store, and the fulfilment.
    """
    if shutil.which("wrk") is None:
        raise click.ClickException(
            "wrk, which generates the load, is missing: apt-get install wrk"
        )
    with tempfile.TemporaryDirectory(prefix="bench-orders-", dir=disk) as made:
        store = Path(made) / "shop.braid"
        with server(store, workers) as (port, pids):
            load = load_with_wrk(port, pids, connections, seconds)
            with eb.open(store) as opened:
                kept = sum(1 for _ in opened.read_all(types=["order.submitted"]))
                drained = drain_with_coordinator(opened, store, kept, drain)
    return load, kept, drained


def faults_of(load: Load, kept: int) -> list[str]:
    """Return the violations of promises that hold on any machine, however slow."""
    # When wrk ends it closes its connections: requests in flight may be done or not.
    open_at_end = (
        load.orders + load.retries - load.created - load.replayed - load.refused
    )
    found = []
    if load.errors:
        found.append(f"{load.errors} errors, such as {load.first_refusal!r}")
    if not load.created <= kept <= load.created + open_at_end:
        found.append(f"{load.created} new orders acknowledged, {kept} in the store")
    # A retry may overtake the order itself: then the order gets the replayed response.
    if not load.retries - open_at_end <= load.replayed <= load.retries:
        found.append(f"{load.retries} retries, {load.replayed} replayed responses")
    return found


def lines_of(load: Load, kept: int, drained: Drain) -> list[str]:
    verdict = "met" if load.rate >= TARGET else "MISSED"
    p50, p99, longest = (
        f"{seconds * 1e3:,.1f} ms" for seconds in (load.p50, load.p99, load.longest)
    )
    rows = [
        ("orders", f"{load.rate:,.0f}", f"a second (at least {TARGET:,}: {verdict})"),
        ("latency", p50, f"p50, {p99} p99, {longest} the longest"),
        ("errors", f"{load.errors:,}", ""),
        ("retries", f"{load.retries:,}", f"sent, {load.replayed:,} replays answered"),
        ("kept", f"{kept:,}", f"orders, {load.created:,} acknowledged as new"),
        ("client", f"{load.client:.0%}", "of a core"),
        ("workers", f"{load.workers:.0%}", "of a core, all together"),
        ("drain", f"{drained.rate:,.0f}", "orders a second brought to their end"),
        ("left", f"{drained.left:,}", f"orders after {drained.seconds:.1f} s of it"),
    ]
    return [
        *(f"{name:8}{value:>10}  {what}".rstrip() for name, value, what in rows),
        *(f"WRONG: {fault}" for fault in faults_of(load, kept)),
    ]


@contextmanager
def server(store: Path, workers: int):
    """Run the server; the value is its port and the process ids of its workers."""
    command = [sys.executable, "-m", API, store, "--port", "0", "--workers", workers]
    with subprocess.Popen(
        [str(part) for part in command], stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            yield _begun(process, workers)
        finally:
            process.terminate()
            # Its remaining output must not fill the pipe while it ends.
            process.communicate(timeout=WAIT_SECONDS)


def _begun(process: subprocess.Popen[str], workers: int) -> tuple[int, list[int]]:
    port, pids, ready = 0, [], 0
    for line in process.stderr:
        if "running on" in line:
            port = int(line.split(" (")[0].rsplit(":", 1)[1])
        if "Started server process" in line:
            pids.append(int(line.split("[")[1].split("]")[0]))
        ready += "Application startup complete" in line
        if ready == workers:
            return port, pids
    raise click.ClickException("the server did not start")


def load_with_wrk(port: int, pids: list[int], connections: int, seconds: float) -> Load:
    # The shortest run that wrk supports is one second.
    duration = max(1, round(seconds))
    before, began = _processor_of(pids), time.monotonic()
    process = subprocess.Popen(
        [
            "wrk", "--threads", "1", "--connections", str(connections),
            "--duration", f"{duration}s", "--script", str(LUA),
            f"http://127.0.0.1:{port}", "--", f"run-{os.getpid()}", str(RETRY_EVERY),
        ],
        stdout=subprocess.PIPE,
        text=True,
    )  # fmt: skip
    output = process.stdout.read()
    process.stdout.close()
    # `wait4` alone reports the processor time of this one child.
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    took = time.monotonic() - began
    counted = [line for line in output.splitlines() if line.startswith("counted ")]
    if process.returncode or not counted:
        raise click.ClickException(f"wrk failed:\n{output}")
    return Load(
        **json.loads(counted[0].removeprefix("counted ")),
        client=(used.ru_utime + used.ru_stime) / took,
        workers=(_processor_of(pids) - before) / took,
    )


def _processor_of(pids: list[int]) -> float:
    """Return the seconds of processor time that these processes have used."""
    ticks = 0
    for pid in pids:
        fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
        ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")


def drain_with_coordinator(
    opened: eb.EventStore, store: Path, waiting: int, seconds: float
) -> Drain:
    """Start the coordinator; count the sagas that end in a time from the first end."""
    command = [sys.executable, "-m", f"{API}.coordinator", str(store)]
    with (
        subprocess.Popen(command, stderr=subprocess.DEVNULL) as process,
        opened.subscribe(after=opened.head(), types=ENDS) as ends,
    ):
        try:
            next(ends)
            began, ended = time.monotonic(), 0
            took = 0.0
            while took < seconds and ended + 1 < waiting:
                next(ends)
                ended += 1
                took = time.monotonic() - began
        finally:
            process.terminate()
            process.wait(WAIT_SECONDS)
    return Drain(ended, took, waiting - ended - 1)


if __name__ == "__main__":
    main()
