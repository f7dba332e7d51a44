"""The check of the language finds what breaks each rule, and nothing else.

The hazard: a check that passes because it reads nothing.
"""

from __future__ import annotations

import importlib.util
import sys

import pytest


@pytest.fixture(scope="module")
def check_language(repository):
    path = repository / "scripts" / "check_language.py"
    spec = importlib.util.spec_from_file_location("check_language", path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    yield module
    del sys.modules[spec.name]


def found(check_language, path, text):
    return [(v.line, v.rule) for v in check_language.violations(path, text)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('"""Give the head."""\n', [(1, "first-word")]),
        (
            'def f():\n    """Tell whether it is so."""\n',
            [(2, "first-word"), (2, "verb")],
        ),
        ('"""Return the head."""\n# Who waits is woken.\n', [(2, "subject")]),
        ('"""Return the head.\n\nWhoever waits is woken.\n"""\n', [(3, "subject")] * 2),
        ("# The lock is for somebody else.\n", [(1, "subject")]),
        ("# The crew is woken.\n", [(1, "word")]),
        ("# The caller is told.\n", [(1, "verb")]),
        ('"""Return the head.\n\n>>> door = crew.knock()\n"""\n', []),
        ('"""Return the process that holds the lock."""\n', []),
        ('x = "Give the crew a door"\n', []),
    ],
)
def test_each_rule_is_found_in_python(check_language, text, expected):
    assert found(check_language, "python/a.py", text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("/// Gives the head.\nfn head() {}\n", [(1, "first-word")]),
        ("/// The head.\n/// Gives way.\n", []),
        ("fn f() {} // code\n    // Nobody waits.\n", [(2, "subject")] * 2),
    ],
)
def test_each_rule_is_found_in_rust(check_language, text, expected):
    assert found(check_language, "rust/a.rs", text) == expected


def test_pages_are_checked_line_by_line(check_language):
    text = "# Head\n\nWho knocks comes in.\n"
    expected = [(3, "subject"), (3, "word"), (3, "verb")]
    assert found(check_language, "docs/a.md", text) == expected


def test_the_repository_has_no_more_violations_than_allowed(check_language, capsys):
    assert check_language.main([]) == 0, capsys.readouterr().out


def test_more_violations_than_allowed_are_printed(
    check_language, capsys, monkeypatch, tmp_path
):
    scripts = tmp_path / "scripts"
    scripts.mkdir()
    for name in check_language.PAGES:
        (tmp_path / name).write_text("The caller waits.\n")
    (scripts / "loose.py").write_text('"""Give the head."""\n')
    monkeypatch.setattr(check_language, "LIMITS", scripts / "language_limits.toml")
    assert check_language.main([]) == 1
    assert "scripts/loose.py:1: first-word: Give" in capsys.readouterr().out
