"""No answer comes before the kernel has said that what it speaks of is on the disk.

The hazard: a store that forgets an fdatasync passes every test that kills processes, since
the page cache survives them. Here a Python program runs under strace; for each commit,
conflict, replay, check, read and delivery that it had, an fdatasync of the right file,
begun after the bytes were written, must have returned 0 before, and an fsync of the
directories of each new file.

Where strace may not trace (no ptrace in a container, say), the test is skipped and says so;
the checker is tested all the same, on a trace that is written out below.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.failure.trace import CALLS, calls, unfounded

VICTIM = Path(__file__).with_name("strace_victim.py")

HAND_WRITTEN = """\
7 mkdir("/s", 0700) = 0
7 fsync(3</>) = 0
7 openat(AT_FDCWD</>, "/s/IDENTITY.tmp", O_RDWR|O_CREAT|O_EXCL, 0600) = 4</s/IDENTITY.tmp>
7 pwritev(4</s/IDENTITY.tmp>, [{iov_base="EBSTORE", iov_len=7}], 1, 0) = 7
7 fsync(4</s/IDENTITY.tmp>) = 0
7 rename("/s/IDENTITY.tmp", "/s/IDENTITY") = 0
7 openat(AT_FDCWD</>, "/s/1.hot.tmp", O_RDWR|O_CREAT|O_EXCL, 0600) = 5</s/1.hot.tmp>
7 pwritev(5</s/1.hot.tmp>, [{iov_base="EBSEGMT", iov_len=7}], 1, 0) = 7
7 fsync(5</s/1.hot.tmp>) = 0
7 rename("/s/1.hot.tmp", "/s/1.hot") = 0
7 fsync(6</s>) = 0
7 pwritev(8</s/1.hot>, [{iov_base="<a 1>", iov_len=5}], 1, 4096) = 5
7 fdatasync(8</s/1.hot> <unfinished ...>
8 pwritev(8</s/1.hot>, [{iov_base="<a 2>", iov_len=5}], 1, 5000) = 5
7 <... fdatasync resumed>) = 0
7 write(9</marks>, "committed <a 1>\\n", 16) = 16
8 fdatasync(8</s/1.hot>) = 0
8 write(9</marks>, "committed <a 2>\\n", 16) = 16
""".splitlines()


def judge(lines: list[str]) -> list[str]:
    answers, found = unfounded(lines, "/marks", "/s")
    assert answers == 2
    return [f"{early.answer}: {early.why}" for early in found]


def test_a_trace_with_every_sync_has_no_finding():
    assert judge(HAND_WRITTEN) == []


def test_an_interrupted_call_is_one_call():
    [first, second] = [c for c in calls(HAND_WRITTEN) if c.name == "fdatasync"]
    assert (first.begun, first.ended, first.result) == (12, 14, 0)
    assert (second.begun, second.ended) == (16, 16)


def test_a_sync_that_began_before_the_write_does_not_cover_it():
    at = HAND_WRITTEN.index("8 fdatasync(8</s/1.hot>) = 0")
    early = HAND_WRITTEN[:at] + HAND_WRITTEN[at + 1 :]
    assert judge(early) == ["committed <a 2>: <a 2> is not synced in /s/1.hot"]


def test_a_sync_that_ends_after_the_answer_does_not_cover_it():
    sync = "8 fdatasync(8</s/1.hot>) = 0"
    late = [*(line for line in HAND_WRITTEN if line != sync), sync]
    assert judge(late) == ["committed <a 2>: <a 2> is not synced in /s/1.hot"]


def test_a_failed_sync_covers_nothing():
    failed = [
        line.replace("resumed>) = 0", "resumed>) = -1 EIO (Input/output error)")
        for line in HAND_WRITTEN
    ]
    assert judge(failed) == ["committed <a 1>: <a 1> is not synced in /s/1.hot"]


@pytest.mark.parametrize(
    ("lost", "why"),
    [
        ("7 fsync(3</>) = 0", "/s has no durable name: / is not synced"),
        ("7 fsync(6</s>) = 0", "/s/1.hot has no durable name: /s is not synced"),
        (
            "7 fsync(5</s/1.hot.tmp>) = 0",
            None,  # The sync of the data is in time.
        ),
        (
            "7 fsync(4</s/IDENTITY.tmp>) = 0",
            "the beginning of /s/IDENTITY is not synced",
        ),
    ],
)
def test_a_file_needs_its_names_and_its_beginning(lost, why):
    without = [line for line in HAND_WRITTEN if line != lost]
    assert len(without) == len(HAND_WRITTEN) - 1
    found = judge(without)
    if why is None:
        assert found == []
    else:
        assert found[0] == f"committed <a 1>: {why}"


def test_an_answer_about_an_event_that_was_never_written_is_found():
    lines = [line for line in HAND_WRITTEN if "<a 2>" not in line or "/marks" in line]
    assert judge(lines) == ["committed <a 2>: <a 2> was not written"]


@dataclass(frozen=True)
class Recorded:
    """Record a trace of the program, and return it with its paths."""

    lines: list[str]
    marks: str
    root: str

    def judge(self, lines: list[str]):
        return unfounded(lines, self.marks, self.root)


def why_not() -> str | None:
    """Return why strace cannot be used here, if it cannot."""
    strace = shutil.which("strace")
    if strace is None:
        return "strace is not installed"
    tried = subprocess.run(
        [strace, "-f", "-o", "/dev/null", "true"],
        capture_output=True,
        text=True,
        check=False,
    )
    if tried.returncode:
        return f"strace may not trace here: {tried.stderr.strip()}"
    return None


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Recorded:
    if reason := why_not():
        pytest.skip(reason)
    directory = tmp_path_factory.mktemp("strace")
    trace, store, marks = (directory / name for name in ("trace", "store", "marks"))
    options = ["-f", "-y", "-v", "-s", "4096", "-e", f"trace={','.join(CALLS)}"]
    program = [sys.executable, str(VICTIM), str(store), str(marks)]
    subprocess.run(
        ["strace", *options, "-o", str(trace), *program],
        check=True,
        timeout=240,
    )
    return Recorded(trace.read_text().splitlines(), str(marks), str(store))


def test_every_answer_follows_the_syncs_that_it_depends_on(recorded):
    answers, found = recorded.judge(recorded.lines)
    assert not found, found[:5]
    marks = Path(recorded.marks).read_text().splitlines()
    assert answers == len(marks)
    kinds = {mark.split()[0] for mark in marks}
    expected = {"committed", "conflict", "replay", "checked", "read", "delivered"}
    assert kinds == expected
    segments = list((Path(recorded.root) / "log").iterdir())
    assert len(segments) > 2, "the log must go from file to file"


FORGOTTEN = {
    "no fdatasync of the log": r"fdatasync\(\d+<[^>]*\.hot>",
    "no fsync of the log's directory": r"fsync\(\d+<[^>]*/log>",
    "no fsync of the store's directory": r"fsync\(\d+<[^>]*/store>",
    "no fsync of new files": r"fsync\(\d+<[^>]*IDENTITY\.tmp>",
}


@pytest.mark.parametrize("pattern", FORGOTTEN.values(), ids=FORGOTTEN)
def test_a_trace_without_such_syncs_has_findings(recorded, pattern):
    lines = list(recorded.lines)
    ends = [
        call.ended
        for call in calls(lines)
        if re.match(pattern, f"{call.name}({call.arguments}")
    ]
    assert ends, "there were such syncs"
    for end in ends:
        lines[end] = lines[end].replace("= 0", "= -1 EIO (Input/output error)")
    _, found = recorded.judge(lines)
    assert found
