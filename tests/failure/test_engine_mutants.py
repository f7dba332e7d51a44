"""The tests of durability can fail.

Each of four faults is put into a copy of the engine's source, and a named test of the
engine must turn red: no fdatasync, no directory fsync, no chain check in recovery, and
readers that see what is written but not yet durable.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Mutant:
    """One fault: where it goes in, and the test that must see it."""

    name: str
    file: str
    good: str
    bad: str
    suite: str
    test: str


MUTANTS = [
    Mutant(
        name="no fdatasync",
        file="src/log/segment_file.rs",
        good="active.map_or(Ok(()), |file| file.sync_data())",
        bad="active.map_or(Ok(()), |_file| Ok(()))",
        suite="answers_after_sync",
        test="every_answer_follows_the_sync_of_its_bytes",
    ),
    Mutant(
        name="no directory fsync",
        file="src/log/directory_layout.rs",
        good="self.vfs.sync_dir(path).map_err(",
        bad="self.vfs.entry(path).map(|_| ()).map_err(",
        suite="answers_after_sync",
        test="every_answer_follows_the_sync_of_its_bytes",
    ),
    Mutant(
        name="no chain check",
        file="src/recovery/scan.rs",
        good="header.previous_chain != self.chain ||",
        bad="",
        suite="torn_tail_or_damage",
        test="a_frame_of_another_history_is_not_restored",
    ),
    Mutant(
        name="no durable filter on reads",
        file="src/commit/publication.rs",
        good="written.unsynced.push_back(entry);",
        bad="""self.log.index.write().apply(&entry.entry).ok();
        self.log.watch.publish(self.log.index.read().head());""",
        suite="answers_after_sync",
        test="a_commit_that_is_not_durable_is_visible_to_no_reader",
    ),
]

pytestmark = pytest.mark.timeout(1200)


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the engine's source, a workspace of its own."""
    copy = tmp_path_factory.mktemp("mutants")
    manifest = (ROOT / "Cargo.toml").read_text()
    members = 'members = ["rust/engine", "rust/binding"]'
    assert members in manifest
    (copy / "Cargo.toml").write_text(
        manifest.replace(members, 'members = ["rust/engine"]')
    )
    for name in ("Cargo.lock", "clippy.toml"):
        shutil.copy(ROOT / name, copy / name)
    shutil.copytree(
        ROOT / "rust" / "engine",
        copy / "rust" / "engine",
        ignore=shutil.ignore_patterns("fuzz", "target"),
    )
    return copy


def run(engine: Path, mutant: Mutant) -> subprocess.CompletedProcess[str]:
    command = ["cargo", "test", "-p", "eventbraid-engine", "--test", mutant.suite]
    environment = {**os.environ, "CARGO_TARGET_DIR": str(engine / "target")}
    # Warnings, such as of what the fault leaves unused, are none of this test's business.
    environment["RUSTFLAGS"] = "--cap-lints warn"
    return subprocess.run(
        [*command, mutant.test, "--", "--exact"],
        cwd=engine,
        env=environment,
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
    )


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_each_mutant_fails_its_test(engine: Path, mutant: Mutant) -> None:
    source = engine / "rust" / "engine" / mutant.file
    good = source.read_text()
    assert good.count(mutant.good) == 1, (
        "the source has changed: bring the mutant along"
    )
    source.write_text(good.replace(mutant.good, mutant.bad))
    try:
        result = run(engine, mutant)
    finally:
        source.write_text(good)
    assert "0 failed" not in result.stdout, "the fault went unseen"
    assert "1 failed" in result.stdout, result.stderr[-3000:]
