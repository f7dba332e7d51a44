"""docs/semantics-tests.md names tests that exist, and leaves no rule without one.

A page that promises tests is worth less than none once they are gone or renamed.
"""

from __future__ import annotations

import re

import pytest

from eventbraid.testing import StoreContract

# The suite tests the first rules for every backend; commands and the embedded store have more.
RULES = range(1, 32)
RULES_OF_BACKENDS = range(1, 21)
LINE = re.compile(r"^- `(?P<file>[^`]+)`: `(?P<name>\w+)`$")


@pytest.fixture(scope="module")
def rules(repository):
    """The tests of each rule, as (file, name)."""
    text = (repository / "docs" / "semantics-tests.md").read_text()
    sections = re.split(r"^## (\d+)\. .*$", text, flags=re.MULTILINE)[1:]
    return {
        int(number): [
            LINE.fullmatch(line).group("file", "name")
            for line in body.splitlines()
            if line.startswith("- ")
        ]
        for number, body in zip(sections[::2], sections[1::2], strict=True)
    }


def test_every_rule_has_a_test(rules):
    assert list(rules) == list(RULES)
    assert all(rules.values())


def test_every_named_test_exists(rules, repository):
    missing = [
        f"{file}: {name}"
        for tests in rules.values()
        for file, name in tests
        if not re.search(
            rf"^\s*(async )?(def|fn|class) {name}\b",
            (repository / file).read_text(),
            flags=re.MULTILINE,
        )
    ]
    assert not missing, "rename them on the page, too"


def test_every_test_of_the_suite_stands_under_its_rule(rules):
    suite = {name for name in dir(StoreContract) if name.startswith("test_")}
    assert all(re.match(r"test_rule_\d\d_[a-z]", name) for name in suite)
    for number in RULES_OF_BACKENDS:
        named = {name for _, name in rules[number] if name in suite}
        assert named == {n for n in suite if n.startswith(f"test_rule_{number:02}_")}


def test_every_test_of_the_suite_states_its_rule():
    for name in dir(StoreContract):
        if name.startswith("test_"):
            assert getattr(StoreContract, name).__doc__
