"""docs/testing.md names files and tests that exist.

A page that says where something is tested sends its reader into the void once the file is
renamed.
"""

from __future__ import annotations

import re

import pytest

CODE = re.compile(r"`([^`\n]+)`")
FILE = re.compile(r"[\w./-]+(\.rs|\.py|\.regressions)|\.?[\w.-]*/[\w./-]+")
TEST = re.compile(r"(\w+)::(\w+)")
FOLDERS = ("", "rust/engine/tests", "rust/engine/src")


@pytest.fixture(scope="module")
def named(repository):
    """Everything that stands in code spans on the page."""
    return CODE.findall((repository / "docs" / "testing.md").read_text())


def test_every_named_file_exists(named, repository):
    files = {text for text in named if FILE.fullmatch(text)}
    assert len(files) > 50
    missing = [
        file
        for file in sorted(files)
        if not any((repository / folder / file).exists() for folder in FOLDERS)
    ]
    assert not missing


def test_every_named_test_exists(named, repository):
    tests = {found.groups() for text in named if (found := TEST.fullmatch(text))}
    assert len(tests) > 20
    folder = repository / "rust" / "engine" / "tests"
    missing = [
        f"{file}::{name}"
        for file, name in sorted(tests)
        if f"fn {name}(" not in (folder / f"{file}.rs").read_text()
    ]
    assert not missing
