"""A session stays with its directory when the path of the store names another one.

The hazards: a log that continues in another store, whose files are overwritten; a new file
that is lost; a forked child that writes to the directory that the path names by then.
"""

from __future__ import annotations

import asyncio
import contextlib
import copy
import hashlib
import os
import pickle
import textwrap

import pytest

import eventbraid as eb
from tests.contract import programs
from tests.peers import peer

pytestmark = pytest.mark.timeout(120)

SMALL = {"segment_size": 65536, "max_segment_size": 65536}
BODY = b"y" * 10_000
# More than fit into the first files of a log.
MANY = 40


def append_many(store, stream, count=MANY):
    """Append until that is refused; return how many events were acknowledged."""
    for done in range(count):
        try:
            store.append([(stream, "x", BODY)])
        except eb.errors.StoreDetached:
            return done
    return count


def digest(root):
    """Return the content of all files that make a store, but for the processes' own."""
    files = sorted(path for path in root.rglob("*") if path.is_file())
    return {
        str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in files
        if path.name != "coord.shm" and path.parent.name != "locks"
    }


def make_store(path, stream="other", count=5):
    """Make a store that is closed; return what its files hold."""
    with eb.open(path, **SMALL) as store:
        append_many(store, stream, count)
    return digest(path)


def versions(path, *streams):
    """Return the versions of streams as the next opening finds them, all of it sound."""
    with eb.open(path, create=False, **SMALL) as store:
        store.verify()
        return [store.version(stream) for stream in streams]


@pytest.fixture
def here(tmp_path, monkeypatch):
    """Two directories with a store of the same name each may have; one is current."""
    for name in ("here", "there"):
        (tmp_path / name).mkdir()
    monkeypatch.chdir(tmp_path / "here")
    return tmp_path


# --- the working directory changes ---------------------------------------------------


def test_a_store_opened_by_a_relative_path_stays_itself_after_chdir(here, monkeypatch):
    before = make_store(here / "there/shop.braid")
    store = eb.open("shop.braid", **SMALL)
    monkeypatch.chdir(here / "there")
    assert append_many(store, "own") == MANY
    assert store.verify().events == store.stats().head == MANY
    with store.subscribe() as subscription:
        assert [next(subscription).version for _ in range(MANY)][-1] == MANY
    store.close()
    assert digest(here / "there/shop.braid") == before
    assert versions(here / "here/shop.braid", "own") == [MANY]


def test_a_location_is_absolute_from_the_call_and_not_from_the_await(here, monkeypatch):
    async def main():
        opening = eb.open_async("shop.braid")
        monkeypatch.chdir(here / "there")
        async with opening as store:
            await store.append([("own", "x", b"")])

    asyncio.run(main())
    assert versions(here / "here/shop.braid", "own") == [1]
    assert not (here / "there/shop.braid").exists()


def test_a_relative_path_means_what_the_system_takes_it_for(here, monkeypatch):
    (here / "deep/er").mkdir(parents=True)
    (here / "here/link").symlink_to(here / "deep/er")
    # The parent of what the link names, and not of the link.
    with eb.open("link/../shop.braid", **SMALL) as store:
        monkeypatch.chdir(here / "there")
        assert append_many(store, "own") == MANY
    assert versions(here / "deep/shop.braid", "own") == [MANY]


def test_a_relative_path_without_a_working_directory_is_refused(here, monkeypatch):
    gone = here / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    with pytest.raises(
        eb.errors.InvalidArgument, match="working directory was removed"
    ):
        eb.open("shop.braid")


@pytest.mark.parametrize("mode", ["shared", "exclusive"])
def test_a_store_goes_on_after_its_working_directory_was_removed(
    here, monkeypatch, mode
):
    work = here / "work"
    work.mkdir()
    monkeypatch.chdir(work)
    with eb.open("../shop.braid", mode=mode, **SMALL) as store:
        monkeypatch.chdir(here)
        work.rmdir()
        # The way that leads over the removed directory is gone with it.
        assert 0 < append_many(store, "own") <= MANY
        with contextlib.suppress(eb.errors.StoreDetached):
            store.close()
    assert versions(here / "shop.braid", "own")[0] > 0


# --- the directory is moved or replaced ----------------------------------------------


@pytest.mark.parametrize("mode", ["shared", "exclusive"])
def test_a_backup_in_the_place_of_a_moved_store_is_not_touched(tmp_path, mode):
    path, away = tmp_path / "shop.braid", tmp_path / "away.braid"
    before = make_store(tmp_path / "backup.braid")
    store = eb.open(path, mode=mode, **SMALL)
    store.append([("own", "x", b"")])
    path.rename(away)
    (tmp_path / "backup.braid").rename(path)
    done = append_many(store, "own")
    assert done < MANY
    with pytest.raises(eb.errors.StoreDetached) as refused:
        store.append([("own", "x", BODY * 8)])
    assert refused.value.path == str(path)
    assert "moved, removed or replaced" in refused.value.reason
    assert "move the store back" in str(refused.value)
    assert [recorded.version for recorded in store.read_stream("own")][-1] == done + 1
    with pytest.raises(eb.errors.StoreDetached):
        store.close()
    assert digest(path) == before
    assert versions(away, "own") == [done + 1]


def test_a_store_that_is_moved_back_takes_appends_again(tmp_path):
    path, away = tmp_path / "shop.braid", tmp_path / "away.braid"
    with eb.open(path, **SMALL) as store:
        path.rename(away)
        done = append_many(store, "own")
        assert done < MANY
        away.rename(path)
        assert append_many(store, "own") == MANY
    assert versions(path, "own") == [done + MANY]


def test_a_symbolic_link_that_is_turned_to_a_new_release_takes_no_files_along(tmp_path):
    for release in ("one", "two"):
        (tmp_path / release).mkdir()
    before = make_store(tmp_path / "two/shop.braid")
    current = tmp_path / "current"
    current.symlink_to("one")
    store = eb.open(current / "shop.braid", **SMALL)
    turned = tmp_path / "turned"
    turned.symlink_to("two")
    turned.replace(current)
    done = append_many(store, "own")
    assert 0 < done < MANY
    with contextlib.suppress(eb.errors.StoreDetached):
        store.close()
    assert digest(tmp_path / "two/shop.braid") == before
    assert versions(tmp_path / "one/shop.braid", "own") == [done]


def test_a_replaced_directory_of_the_log_gets_no_file(tmp_path):
    path = tmp_path / "shop.braid"
    store = eb.open(path, **SMALL)
    (path / "log").rename(tmp_path / "log")
    (path / "log").mkdir()
    done = append_many(store, "own")
    assert 0 < done < MANY
    with contextlib.suppress(eb.errors.StoreDetached):
        store.close()
    assert list((path / "log").iterdir()) == []
    (path / "log").rmdir()
    (tmp_path / "log").rename(path / "log")
    assert versions(path, "own") == [done]


def test_a_moved_store_is_opened_where_it_is_while_it_is_open(tmp_path):
    path, away = tmp_path / "shop.braid", tmp_path / "away.braid"
    store = eb.open(path, **SMALL)
    store.append([("own", "x", b"")])
    path.rename(away)
    before = make_store(path)
    # The lock of an open store moves with its directory, so it is still busy.
    with pytest.raises(eb.EventbraidError):
        eb.open(away, mode="exclusive", lock_timeout=0)
    store.append([("own", "x", b"")])
    with contextlib.suppress(eb.errors.StoreDetached):
        store.close()
    assert digest(path) == before
    assert versions(away, "own") == [2]


def test_processes_of_a_moved_store_write_nothing_to_the_one_in_its_place(tmp_path):
    path, away = tmp_path / "shop.braid", tmp_path / "away.braid"
    with peer(path, **SMALL) as other:
        store = eb.open(path, **SMALL)
        assert other.append("own") == 1
        path.rename(away)
        before = make_store(path)
        done = 1 + append_many(store, "own")
        refused = other.ask(
            f"[store.append([('own', 'x', {BODY!r})]) for _ in range(40)]"
        )
        assert refused[0] == "StoreDetached"
        with contextlib.suppress(eb.errors.StoreDetached):
            store.close()
        assert digest(path) == before
        other.kill()
    assert versions(away, "own")[0] >= done


def test_a_read_only_opening_follows_its_own_store(tmp_path):
    path, away = tmp_path / "shop.braid", tmp_path / "away.braid"
    with eb.open(path, **SMALL) as store:
        assert append_many(store, "own", 10) == 10
    make_store(tmp_path / "backup.braid")
    with eb.open(path, read_only=True, **SMALL) as view:
        path.rename(away)
        (tmp_path / "backup.braid").rename(path)
        assert len(list(view.read_all())) == view.verify().events == 10
        assert (view.version("own"), view.version("other")) == (10, 0)


# --- forked children -----------------------------------------------------------------

FORKED = """
import os, sys, traceback

BODY = b"y" * 10_000
SMALL = dict(segment_size=65536, max_segment_size=65536)

def in_child(work):
    child = os.fork()
    if not child:
        try:
            work()
        except BaseException:
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 0, status

os.chdir(sys.argv[1])
"""


def forked(program, base):
    """Run a program whose working directory is `base`."""
    program = FORKED + textwrap.dedent(program)
    done = programs.run(program, base, seconds=200, warnings="ignore")
    assert (done.returncode, done.stderr) == (0, "")


def test_a_forked_child_uses_the_store_of_its_parent_after_chdir(here):
    before = make_store(here / "there/shop.braid")
    forked(
        """
        os.chdir("here")
        with eb.open("shop.braid", **SMALL) as store:
            store.append([("own", "x", b"")])
            subscription = store.subscribe()

            def work():
                os.chdir("../there")
                assert next(subscription).stream == "own"
                for _ in range(40):
                    store.append([("own", "x", BODY)])
                assert store.version("own") == store.verify().events == 41
                store.close()

            in_child(work)
            assert store.version("own") == 41
        """,
        here,
    )
    assert digest(here / "there/shop.braid") == before
    assert versions(here / "here/shop.braid", "own") == [41]


def test_a_forked_child_refuses_the_store_that_took_the_place_of_its_parents(here):
    before = make_store(here / "backup.braid")
    forked(
        """
        store = eb.open("shop.braid")
        store.append([("own", "x", b"")])
        os.rename("shop.braid", "away.braid")
        os.rename("backup.braid", "shop.braid")

        def refused():
            for call in (store.head, lambda: store.append([("own", "x", b"")])):
                try:
                    call()
                except eb.errors.StoreDetached as error:
                    assert "another store" in error.reason, error
                else:
                    raise AssertionError("the child used another store")

        in_child(refused)
        os.rename("shop.braid", "backup.braid")
        os.rename("away.braid", "shop.braid")

        def allowed():
            assert store.append([("own", "x", b"")]).last_position == 2

        in_child(allowed)
        store.close()
        """,
        here,
    )
    assert digest(here / "backup.braid") == before
    assert versions(here / "shop.braid", "own") == [2]


def test_a_forked_child_makes_no_store_where_its_parents_was(here):
    forked(
        """
        store = eb.open("shop.braid")
        store.append([("own", "x", b"")])
        os.rename("shop.braid", "away.braid")

        def refused(*kinds):
            try:
                store.head()
            except kinds:
                return
            raise AssertionError("the child used another store")

        in_child(lambda: refused(eb.errors.NotAStore))
        os.mkdir("shop.braid")
        in_child(lambda: refused(eb.errors.StoreDetached))
        assert os.listdir("shop.braid") == []
        os.rmdir("shop.braid")
        os.rename("away.braid", "shop.braid")
        store.close()
        """,
        here,
    )


# --- the error -----------------------------------------------------------------------


def test_a_detached_store_is_an_error_that_travels():
    error = eb.errors.StoreDetached("shop.braid", "it was moved", "move it back")
    for other in (pickle.loads(pickle.dumps(error)), copy.copy(error)):
        assert (other.path, other.reason, other.remedy) == (
            "shop.braid",
            "it was moved",
            "move it back",
        )
        assert str(other) == str(error)
    assert os.fspath("shop.braid") in str(error)
