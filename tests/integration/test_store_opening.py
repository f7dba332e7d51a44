"""Opens of paths without a store, with a part of one, or with another version's.

The hazard: a file that is overwritten because it has the name of a store; a store that an
older program takes for its own; a crash during the creation of a store, after which the
path cannot be used.
"""

from __future__ import annotations

import os
import shutil

import pytest

import eventbraid as eb
from tests.contract import programs

pytestmark = pytest.mark.filterwarnings("error")


@pytest.fixture
def location(tmp_path):
    return tmp_path / "store.braid"


@pytest.fixture
def made(location):
    """A closed store of one event."""
    with eb.open(location) as store:
        store.append([("a", "x", b"1")])
    return location


def content(folder):
    """What a store holds: not what its processes come together by, which is none of it."""
    return {
        path.relative_to(folder): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and "locks" not in path.parts and path.name != "coord.shm"
    }


def refused(location, kind):
    """The error of an opening that must change nothing."""
    before = content(location)
    with pytest.raises(kind) as error:
        eb.open(location)
    assert content(location) == before
    return error.value


def patched(file, offset, replacement):
    data = bytearray(file.read_bytes())
    data[offset : offset + len(replacement)] = replacement
    file.write_bytes(data)


def test_a_store_of_a_newer_format_is_refused_and_left_alone(made):
    patched(made / "IDENTITY", 8, (2).to_bytes(4, "little"))
    error = refused(made, eb.errors.IncompatibleFormat)
    assert error.path == str(made / "IDENTITY")
    assert (error.found, error.supported) == (2, 1)
    assert "format 2" in str(error)


@pytest.mark.parametrize("name", ["README", ".hidden", "IDENTITY.bak", "log"])
def test_a_folder_with_anything_else_in_it_is_no_place_for_a_store(location, name):
    location.mkdir()
    (location / name).write_text("mine")
    error = refused(location, eb.errors.NotAStore)
    assert error.path == str(location)
    assert name in error.reason


@pytest.mark.parametrize("name", ["lost+found", ".snapshot", ".DS_Store"])
def test_a_store_is_made_at_the_root_of_a_fresh_volume(location, name):
    location.mkdir()
    own = location / name
    own.touch() if name == ".DS_Store" else own.mkdir()
    with eb.open(location) as store:
        store.append([("a", "x", b"1")])
    assert own.exists()
    with eb.open(location, create=False) as store:
        assert store.head() == 1


@pytest.mark.parametrize("create", [True, False])
def test_what_is_in_a_folder_that_is_no_store_is_named_with_a_remedy(location, create):
    (location / "lost+found").mkdir(parents=True)
    for number in range(5):
        (location / f"letter-{number}").write_text("mine")
    with pytest.raises(eb.errors.NotAStore) as error:
        eb.open(location, create=create)
    for text in (
        "letter-0",
        "letter-2",
        "and 2 more",
        "give an empty or a new directory",
    ):
        assert text in error.value.reason
    assert "lost+found" not in error.value.reason


def test_a_fresh_volume_is_no_store_without_leave_to_make_one(location):
    (location / "lost+found").mkdir(parents=True)
    with pytest.raises(eb.errors.NotAStore, match="leave out create=False"):
        eb.open(location, create=False)


def test_a_folder_whose_identity_is_another_programs_is_no_store(location):
    location.mkdir()
    (location / "IDENTITY").write_text("I am somebody else, and this is my file.\n" * 9)
    assert "IDENTITY" in refused(location, eb.errors.NotAStore).reason


@pytest.mark.parametrize("length", [0, 7])
def test_a_cut_off_identity_is_never_taken_for_a_new_store(made, length):
    identity = made / "IDENTITY"
    identity.write_bytes(identity.read_bytes()[:length])
    refused(made, eb.errors.NotAStore)


@pytest.mark.parametrize("length", [8, 12, 40, 63])
def test_a_shortened_identity_is_damage(made, length):
    identity = made / "IDENTITY"
    identity.write_bytes(identity.read_bytes()[:length])
    error = refused(made, eb.errors.CorruptStore)
    assert error.file == str(identity)


def test_a_flipped_identity_is_damage(made):
    patched(made / "IDENTITY", 20, b"\xff\xff")
    assert refused(made, eb.errors.CorruptStore).remedy


def test_a_store_whose_log_is_gone_is_no_new_one(made):
    shutil.rmtree(made / "log")
    refused(made, eb.errors.CorruptStore)


def half_made(location, stage):
    """Build the files that a crash leaves after some steps of the creation of a store."""
    with eb.open(location):
        pass
    whole = location.with_name("whole")
    location.rename(whole)
    location.mkdir()
    steps = [
        lambda: (location / "IDENTITY.tmp").write_bytes(b"EBSTORE\n half"),
        lambda: shutil.copy(whole / "IDENTITY", location / "IDENTITY.tmp"),
        lambda: (location / "IDENTITY.tmp").rename(location / "IDENTITY"),
        (location / "log").mkdir,
        (location / "locks").mkdir,
        lambda: (location / "log" / "0000000001.hot.tmp").write_bytes(b"half"),
    ]
    for step in steps[:stage]:
        step()


@pytest.mark.parametrize("stage", range(7))
def test_a_half_made_store_is_made_whole_by_the_next_opening(location, stage):
    half_made(location, stage)
    with eb.open(location) as store:
        assert store.append([("a", "x", b"1")]).last_position == 1
    with eb.open(location, create=False) as store:
        assert [recorded.data for recorded in store.read_all()] == [b"1"]
    assert not list(location.glob("*.tmp"))


def test_a_process_killed_while_it_makes_a_store_leaves_a_place_for_one(location):
    for moment in (0.0, 0.002, 0.005, 0.01, 0.02):
        program = """
            import os, signal, sys, threading
            moment = float(sys.argv[2])
            killer = threading.Timer(moment, os.kill, (os.getpid(), signal.SIGKILL))
            killer.start()
            store = eb.open(sys.argv[1])
            killer.join()
        """
        place = location.with_name(f"store-{moment}.braid")
        assert programs.run(program, place, moment).returncode == -9
        with eb.open(place) as store:
            assert store.head() == 0
            store.append([("a", "x", b"")])


def test_a_second_process_is_told_who_holds_the_store(location):
    program = """
        import os, sys
        with eb.open(sys.argv[1], mode="exclusive") as store:
            print(os.getpid(), flush=True)
            sys.stdin.read()
    """
    with programs.started(program, location, stdin=programs.PIPE) as process:
        holder = programs.line(process)
        with pytest.raises(eb.StoreBusy) as busy:
            eb.open(location)
        assert holder in busy.value.holder
        assert holder in str(busy.value)
        assert str(location) in str(busy.value)
        process.kill()
        process.wait(60)
        # The lock dies with its process; the words about it may stay.
        with eb.open(location) as store:
            assert store.append([("a", "x", b"")]).last_position == 1


@pytest.mark.parametrize(
    "path",
    [".", "./", "..", "../", "../store.braid", "./log/..", "../other/../store.braid"],
)
@pytest.mark.parametrize("read_only", [False, True])
def test_a_store_opens_by_every_relative_path(tmp_path, monkeypatch, path, read_only):
    made = tmp_path / "store.braid"
    (tmp_path / "other").mkdir()
    with eb.open(made) as store:
        store.append([("a", "x", b"")])
    inside = path in {"..", "../"}
    monkeypatch.chdir(made / "log" if inside else made)
    with eb.open(path, create=False, read_only=read_only) as store:
        assert store.head() == 1
        if not read_only:
            store.append([("a", "x", b"")])
    with eb.open(made, create=False) as store:
        assert store.version("a") == (1 if read_only else 2)


def test_a_store_is_made_in_the_working_directory(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with eb.open(".") as store:
        store.append([("a", "x", b"")])
    with eb.open(tmp_path, create=False) as store:
        assert store.version("a") == 1


def test_every_path_to_a_store_leads_to_the_same_lock(made, tmp_path, monkeypatch):
    link = tmp_path / "link"
    link.symlink_to(made)
    monkeypatch.chdir(tmp_path)
    for other in (link, made.name, tmp_path / "." / made.name, os.fsencode(made)):
        with eb.open(made), pytest.raises(eb.StoreBusy):
            eb.open(other, mode="exclusive")
        with eb.open(other) as store:
            assert store.head() == 1


@pytest.mark.parametrize(
    ("location", "kind"),
    [
        ("", eb.errors.InvalidArgument),
        ("a\0b", eb.errors.InvalidArgument),
        ("postgresql://host/name", eb.errors.InvalidArgument),
        (5, TypeError),
        (None, TypeError),
        (["store"], TypeError),
    ],
    ids=ascii,
)
def test_what_names_no_place_is_refused(location, kind):
    with pytest.raises(kind):
        eb.open(location)
    with pytest.raises(kind):
        eb.open_async(location)


@pytest.mark.parametrize(
    ("options", "kind"),
    [
        ({"segment_size": 64 * 1024 - 1}, eb.errors.InvalidArgument),
        ({"segment_size": 2**30 + 1}, eb.errors.InvalidArgument),
        ({"segment_size": 2**20, "max_segment_size": 2**19}, eb.errors.InvalidArgument),
        ({"max_segment_size": 2**30 + 1}, eb.errors.InvalidArgument),
        ({"cache_size": -1}, eb.errors.InvalidArgument),
        ({"cache_size": "64 MiB"}, TypeError),
        ({"segment_size": True}, TypeError),
        ({"segment_size": 1e6}, TypeError),
        ({"colour": "red"}, TypeError),
    ],
    ids=ascii,
)
def test_options_that_make_no_sense_make_nothing(location, options, kind):
    with pytest.raises(kind):
        eb.open(location, **options)
    assert not location.exists()


@pytest.mark.parametrize(
    "options",
    [
        {"lock_timeout": 10**5000},
        {"cache_size": -(10**5000)},
        {"segment_size": 10**5000},
        {"mode": 10**5000},
    ],
    ids=lambda options: next(iter(options)),
)
def test_an_option_of_too_many_digits_is_refused_by_its_name(options):
    (name,) = options
    with pytest.raises(eb.errors.InvalidArgument, match=f"invalid {name} "):
        eb.open("memory:", **options)


def test_a_location_that_no_file_can_have_is_refused():
    with pytest.raises(eb.errors.InvalidArgument, match=r"invalid location 'a\\ud800'"):
        eb.open("a\ud800")
