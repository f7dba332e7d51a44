"""A process is forked while a store is open: the child has a store of its own.

The hazards: a child that waits for ever for a lock whose holder exists in its parent only,
that writes with its parent's handle, or keeps the locks of a dead parent; and a parent
that is harmed by what its child does.
"""

from __future__ import annotations

import os
import signal
import textwrap

import pytest

import eventbraid as eb
from tests.contract import programs

pytestmark = pytest.mark.timeout(120)

# The beginning of every program: a forked child that runs code, and prints its errors.
FORKING = """
import asyncio, os, sys, threading, time, traceback, warnings
warnings.filterwarnings("error", category=ResourceWarning)

def in_child(work):
    child = os.fork()
    if child:
        return child
    try:
        work()
        sys.stdout.flush()
    except BaseException:
        traceback.print_exc()
        os._exit(1)
    os._exit(0)

def ended(*children):
    for child in children:
        _, status = os.waitpid(child, 0)
        assert os.waitstatus_to_exitcode(status) == 0, status

def raised(kind, call):
    try:
        call()
    except kind as error:
        return str(error)
    raise AssertionError(f"no {kind.__name__}")

location = sys.argv[1]
"""


@pytest.fixture
def location(tmp_path):
    return tmp_path / "store.braid"


def forking(program, location):
    """Run a program that forks; answer what it printed."""
    done = programs.run(
        FORKING + textwrap.dedent(program), location, seconds=200, warnings="ignore"
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def test_a_child_uses_the_store_as_its_parent_does(location):
    forking(
        """
        with eb.open(location) as store:
            store.append([("a", "x", b"parent")], idempotency_key="k")
            subscription = store.subscribe()
            assert next(subscription).data == b"parent"

            def work():
                assert store.head() == store.version("a") == 1
                assert store.append([("a", "x", b"child")]).last_position == 2
                assert [r.data for r in store.read_all()] == [b"parent", b"child"]
                # A subscription goes on from where it was.
                assert (subscription.position, next(subscription).data) == (1, b"child")
                assert store.committed("k").last_position == 1
                assert list(store.streams()) == ["a"]
                assert store.read_streams(["a"]).position == 2
                assert store.verify().events == 2
                assert os.getpid() in [m.pid for m in store.stats().sessions if m.is_self]
                store.close()
                assert "closed" in raised(eb.errors.StoreClosed, store.head)

            child = in_child(work)
            assert next(subscription).data == b"child"
            ended(child)
            assert store.append([("a", "x", b"parent")]).last_position == 3
            subscription.close()
        """,
        location,
    )


def test_a_child_awaits_the_store_as_its_parent_does(location):
    forking(
        """
        async def use(store, number):
            done = await store.append([("a", "x", b"%d" % number)])
            async with store.subscribe(after=done.first_position - 1) as subscription:
                async for recorded in subscription:
                    assert recorded.data == b"%d" % number
                    break
            assert await store.head() >= await store.version("a") >= number
            assert [r.version async for r in store.read_stream("a", limit=1)] == [1]

        async def prepared():
            return await eb.open_async(location)

        store = asyncio.run(prepared())
        for number in range(1, 4):
            asyncio.run(use(store, 2 * number - 1))
            ended(in_child(lambda: asyncio.run(use(store, 2 * number))))
        asyncio.run(store.close())
        """,
        location,
    )


def test_a_child_of_a_running_loop_has_a_loop_of_its_own(location):
    """Appends are in flight in the parent when it forks."""
    forking(
        """
        async def use(store):
            await asyncio.gather(*(store.append([("child", "x", b"")]) for _ in range(20)))
            await store.close()

        async def main():
            async with eb.open_async(location) as store:
                flying = [
                    asyncio.ensure_future(store.append([("parent", "x", b"")]))
                    for _ in range(100)
                ]
                await asyncio.sleep(0)
                children = [in_child(lambda: asyncio.run(use(store))) for _ in range(3)]
                await asyncio.gather(*flying)
                await asyncio.to_thread(ended, *children)
                assert await store.version("parent") == 100
                assert await store.version("child") == 60

        asyncio.run(main())
        """,
        location,
    )


def test_children_of_a_busy_parent_wait_for_no_lock_of_its_threads(location):
    """Each fork finds the parent's threads somewhere else."""
    told = forking(
        """
        from tests.commands import Deposit, Money
        store = eb.open(location)
        executor = eb.Executor(store)
        stopping = threading.Event()

        def write(name):
            while not stopping.is_set():
                store.append([(name, "x", bytes(500))] * 3)
                executor.execute(Deposit(account=f"account-{name}", amount=Money(1)))

        def follow():
            for _ in store.subscribe():
                if stopping.is_set():
                    return

        def read():
            while not stopping.is_set():
                for _ in store.read_all(backward=True, limit=100):
                    store.stats()

        threads = [threading.Thread(target=write, args=(f"{n}",)) for n in range(3)]
        threads += [threading.Thread(target=follow), threading.Thread(target=read)]
        for thread in threads:
            thread.daemon = True
            thread.start()

        def work():
            store.append([("child", "x", b"")])
            executor.execute(Deposit(account="account-child", amount=Money(1)))
            next(store.subscribe())
            store.close()

        for _ in range(25):
            ended(in_child(work))
        stopping.set()
        store.append([("end", "x", b"")])
        for thread in threads:
            thread.join(30)
            assert not thread.is_alive()
        assert store.verify().events == store.head()
        print(store.version("child"))
        store.close()
        """,
        location,
    )
    assert int(told) == 25


FIRST_USES = {
    "an event that is read": "assert next(subscription).data == b'1'",
    "the id of an event": "event.event_id",
    "the time of an event": "event.recorded_at",
    "the versions of an append": "assert appended.versions",
    "a new id": "uuid7()",
    "a given id": "NewEvent('b', 'x', b'', event_id=ID)",
    "a mapping as metadata": "NewEvent('b', 'x', b'', metadata=MAPPING)",
    "a body that carries metadata": "store.append([('b', 'x', Body(b''))])",
    "a condition": "store.append([], expect={'a': EXISTS})",
}


@pytest.mark.parametrize("use", FIRST_USES.values(), ids=FIRST_USES)
def test_a_fork_during_the_first_use_of_something_leaves_it_usable(location, use):
    """What is made at its first use, by a thread that the child lacks, is never half made.

    The thread has the lowest priority and the processor of the main thread, which waits
    for the GIL: as soon as the use gives up the GIL, the main thread has it. It forks when
    the thread waits for the GIL in turn.
    """
    forking(
        f"""
        import ctypes, signal, uuid
        from types import MappingProxyType
        from eventbraid import EXISTS, NewEvent
        from eventbraid.store import uuid7
        ID, MAPPING = uuid.UUID(int=7), MappingProxyType({{"k": "v"}})

        class Body(bytes):
            metadata = {{"v": "2"}}

        def use():
            {use}

        def use_at_low_priority():
            os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
            # Keeps the GIL until the main thread has come to wait for it.
            end = time.monotonic() + 0.3
            while time.monotonic() < end:
                pass
            use()

        def use_in_child():
            signal.alarm(40)
            use()

        os.sched_setaffinity(0, [min(os.sched_getaffinity(0))])
        sys.setswitchinterval(1000)
        store = eb.open(location)
        appended = store.append([("a", "x", b"1")])
        [event] = store.read_stream("a")
        subscription = store.subscribe()
        thread = threading.Thread(target=use_at_low_priority)
        thread.start()
        # With the GIL, so that the thread goes on until it needs it again.
        ctypes.PyDLL(None).usleep(100_000)
        ended(in_child(use_in_child))
        thread.join()
        store.close()
        """,
        location,
    )


def test_a_lock_that_is_held_at_the_fork_is_the_parents(location):
    """Every lock in Python that a child could wait for, held by a thread that it lacks."""
    forking(
        """
        from eventbraid.command import _queue
        from eventbraid.store import _asyncio_port
        from tests.commands import Deposit, Money
        store = eb.open(location)
        executor = eb.Executor(store)
        deposit = Deposit(account="account-1", amount=Money(1))
        for _ in range(20):
            executor.execute(deposit)
        locks = [
            store._handle._opening.get(),
            _asyncio_port._ports_lock.get(),
            _queue._queues_lock.get(),
            _queue.queues_of(store.coordination).get()._lock,
            executor._engine._memory.get()._lock,
        ]
        held, over = threading.Event(), threading.Event()

        def hold():
            for lock in locks:
                lock.acquire()
            held.set()
            over.wait()

        holder = threading.Thread(target=hold, daemon=True)
        holder.start()
        held.wait()

        def work():
            assert asyncio.run(store.as_async().head()) == 20
            queues = _queue.queues_of(store.coordination).get()
            queues.leave("account-1", None, 0.0)
            eb.Executor(store)
            for _ in range(3):
                executor.execute(deposit)
            store.close()

        ended(in_child(work))
        over.set()
        holder.join()
        store.close()
        """,
        location,
    )


def test_workers_of_a_prepared_parent_share_its_store(location):
    """As under a server that loads the application before it forks its workers."""
    forking(
        """
        from tests.commands import Deposit, Money
        store = eb.open(location)
        # Processes don't queue for a stream as threads do, so they lose more often.
        executor = eb.Executor(store, retry=eb.RetryPolicy(maximum_attempts=1000))

        def serve():
            for _ in range(20):
                executor.execute(Deposit(account="account-1", amount=Money(1)))
            assert store.stats().sessions
            store.close()

        ended(*[in_child(serve) for _ in range(4)])
        assert store.version("account-1") == 80
        store.close()
        """,
        location,
    )


def test_threads_of_a_child_that_begin_together_open_one_store(location):
    forking(
        """
        with eb.open(location) as store:
            def work():
                line = threading.Barrier(8)
                def use():
                    line.wait()
                    store.append([("a", "x", b"")])
                threads = [threading.Thread(target=use) for _ in range(8)]
                for thread in threads:
                    thread.start()
                for thread in threads:
                    thread.join()
                own = [m for m in store.stats().sessions if m.pid == os.getpid()]
                assert len(own) == 1, own
                store.close()

            ended(in_child(work))
            assert store.version("a") == 8
        """,
        location,
    )


def test_a_grandchild_has_a_store_of_its_own(location):
    forking(
        """
        with eb.open(location) as store:
            store.append([("a", "x", b"")])

            def young():
                assert store.append([("a", "x", b"")]).last_position == 3
                assert len(store.stats().sessions) == 3
                store.close()

            def work():
                assert store.append([("a", "x", b"")]).last_position == 2
                ended(in_child(young))
                assert store.append([("a", "x", b"")]).last_position == 4
                store.close()

            ended(in_child(work))
            assert store.head() == 4
        """,
        location,
    )


def test_what_cannot_be_had_twice_is_refused_and_the_parent_unharmed(location):
    forking(
        """
        with eb.open(location, mode="exclusive") as store, eb.open("memory:") as memory:
            store.append([("a", "x", b"")])
            memory.append([("a", "x", b"")])
            reads, waits = os.pipe()
            hears, tells = os.pipe()
            parent = os.getpid()

            def work():
                refused = raised(eb.StoreBusy, store.head)
                assert f"process {parent}" in refused, refused
                assert refused == raised(eb.StoreBusy, lambda: store.append([("a", "x", b"")]))
                assert "memory" in raised(eb.errors.StoreClosed, memory.head)
                memory.close()
                os.write(tells, b"x")
                # Once the parent has closed it, it is free.
                os.read(reads, 1)
                assert store.append([("a", "x", b"")]).last_position == 3
                store.close()

            child = in_child(work)
            assert store.append([("a", "x", b"")]).last_position == 2
            assert memory.head() == 1
            # A child that fails before it tells is told apart by its end.
            os.close(tells)
            os.read(hears, 1)
            store.close()
            os.write(waits, b"x")
            ended(child)
            assert memory.append([("a", "x", b"")]).last_position == 2
        """,
        location,
    )


def test_what_was_closed_before_the_fork_is_closed_in_the_child(location):
    forking(
        """
        store = eb.open(location)
        with store:
            subscription = store.subscribe()
            subscription.close()
            ended(in_child(lambda: [1 / 0 for _ in subscription]))
        def work():
            raised(eb.errors.StoreClosed, store.head)
            raised(eb.errors.StoreClosed, lambda: next(store.read_all()))
            store.close()
        ended(in_child(work))
        """,
        location,
    )


READS = """
reads = [
    lambda store: store.read_stream("a"),
    lambda store: store.read_all(),
    lambda store: store.streams(),
    lambda store: store.subscribe(),
]
"""


def test_a_child_that_cannot_open_the_store_refuses_reads_at_the_call(location):
    forking(
        READS
        + """
with eb.open(location, mode="exclusive") as store, eb.open("memory:") as memory:
    def work():
        for read in reads:
            raised(eb.StoreBusy, lambda: read(store))
            for face in (memory, memory.as_async()):
                assert "memory" in raised(eb.errors.StoreClosed, lambda: read(face))
        memory.close()
        for read in reads:
            raised(eb.errors.StoreClosed, lambda: read(memory.as_async()))
    ended(in_child(work))
    """,
        location,
    )


def test_a_child_that_closes_what_it_never_used_leaves_its_parents_alone(location):
    forking(
        """
        with eb.open(location) as store:
            store.append([("a", "x", b"")])
            with store.subscribe() as subscription:
                next(subscription)
                def work():
                    with store, subscription:
                        pass
                    raised(eb.errors.StoreClosed, store.head)
                    assert list(subscription) == []
                ended(in_child(work))
                store.append([("a", "x", b"")])
                assert next(subscription).position == 2
        """,
        location,
    )


def test_a_child_that_ends_without_a_word_is_no_forgotten_store(location):
    """It exits as programs do, with all destructors."""
    forking(
        """
        store = eb.open(location)
        waiting = store.subscribe()
        listing = store.streams()
        child = os.fork()
        if child:
            ended(child)
            assert store.append([("a", "x", b"")]).last_position == 1
            store.close()
        """,
        location,
    )


def test_a_read_goes_on_in_the_child_and_a_listing_is_begun_again(location):
    forking(
        """
        with eb.open(location) as store:
            store.append([(f"s-{n:04}", "x", bytes(2000)) for n in range(3000)])
            events, names = store.read_all(), store.streams()
            for _ in range(10):
                next(events), next(names)

            def work():
                assert [r.position for r in events] == list(range(11, 3001))
                assert "begin it again" in raised(eb.errors.StoreClosed, lambda: list(names))
                assert len(list(store.streams())) == 3000
                store.close()

            ended(in_child(work))
            assert len(list(events)) == len(list(names)) == 2990
        """,
        location,
    )


def test_an_idle_child_of_a_dead_parent_keeps_no_lock(location):
    program = (
        FORKING
        + """
store = eb.open(location)
store.append([("a", "x", b"")])
reads, writes = os.pipe()
child = os.fork()
if child == 0:
    # By now the child has closed the files of its parent.
    os.write(writes, b".")
    sys.stdin.read()
    # Only now does it use the store, which had other openings since.
    print(store.append([("a", "x", b"")]).last_position, flush=True)
    store.close()
    os._exit(0)
os.read(reads, 1)
print(child, flush=True)
store.subscribe().__next__()
sys.stdin.read()
"""
    )
    with programs.started(
        program, location, stdin=programs.PIPE, warnings="ignore"
    ) as parent:
        child = int(programs.line(parent))
        parent.kill()
        parent.wait(60)
        os.kill(child, 0)
        with eb.open(location, mode="exclusive", lock_timeout=0) as store:
            assert store.append([("a", "x", b"")]).last_position == 2
        parent.stdin.close()
        assert programs.line(parent) == "3"
        parent.stdin = None


def test_a_killed_child_leaves_its_parent_and_its_locks_alone(location):
    forking(
        f"""
        with eb.open(location) as store:
            store.append([("a", "x", b"")])
            for _ in range(5):
                reads, tells = os.pipe()

                def work():
                    for number in range(10 ** 9):
                        store.append([("child", "x", bytes(number % 5000))])
                        os.write(tells, b"x")

                child = in_child(work)
                os.read(reads, 20)
                os.kill(child, {int(signal.SIGKILL)})
                os.waitpid(child, 0)
                store.append([("a", "x", b"")])
            assert store.version("a") == 6
            assert [m.pid for m in store.stats().sessions] == [os.getpid()]
            assert store.verify().events == store.head()
        """,
        location,
    )


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_processes_of_the_standard_library_share_a_store(location, tmp_path, method):
    """A pool's workers under each way of starting them."""
    script = tmp_path / "pool.py"
    script.write_text(
        """
import multiprocessing, sys
import eventbraid as eb

store = None

def begin(location):
    global store
    store = store or eb.open(location)

def work(number):
    store.append([("a", "x", b"%d" % number)], idempotency_key=f"k-{number}")
    return store.version("a") > 0

if __name__ == "__main__":
    location, method = sys.argv[1:]
    store = eb.open(location)
    store.append([("a", "x", b"")])
    context = multiprocessing.get_context(method)
    with context.Pool(3, begin, (location,)) as pool:
        assert all(pool.map(work, range(60), chunksize=1))
    assert store.version("a") == 61
    store.close()
"""
    )
    program = """
        import subprocess, sys
        sys.exit(subprocess.run([sys.executable, "-Wignore", *sys.argv[1:]]).returncode)
    """
    done = programs.run(program, script, location, method, seconds=200)
    assert (done.returncode, done.stderr) == (0, "")
