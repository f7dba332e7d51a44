"""Check the language of docstrings, comments and pages by the rules of CONTRIBUTING.md.

Prints file, line and rule of each violation in a part of the repository that has more
of them than `language_limits.toml` allows, and exits with 1. The limits only go down:
``--update`` writes the present counts where they are lower.
"""  # noqa: INP001 - a script

from __future__ import annotations

import ast
import io
import re
import sys
import tokenize
import tomllib
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

LIMITS = Path(__file__).with_name("language_limits.toml")
PARTS = ("python", "rust", "tests", "benches", "scripts", "docs", ".")
PAGES = ("README.md", "CHANGELOG.md", "CONTRIBUTING.md")
# The glossary and the rules name the words that they ban.
EXEMPT = ("scripts/check_language.py", "tests/unit/test_language.py", "CONTRIBUTING.md")

FIRST_WORD = re.compile(r"(?:Gives?|Tells?|Says?|Has)\b")
STARTS_WITH_SUBJECT = re.compile(r"(?:^|[.;!?] +)(?:Who|Whoever|Somebody|Nobody)\b")
ANYWHERE = re.compile(r"\b(?:whoever|somebody|nobody)\b", re.IGNORECASE)
BANNED = re.compile(
    r"\b(?:crews?|rosters?|alarms?|witness(?:es)?|doors?|bells?|knock(?:s|ed|ing)?"
    r"|chores?|patience|tenures?|yardsticks?|sightings?|strangers?|roles?)\b",
    re.IGNORECASE,
)
VERB = re.compile(
    r"\b(?:tells?|told|hears?|heard|(?:comes?|came|lets?) in|under way|so many)\b",
    re.IGNORECASE,
)
EXAMPLE = re.compile(r"\s*(?:>>>|\.\.\. |\.\.\.$)")


@dataclass(frozen=True, slots=True)
class Violation:
    """A place where a rule is broken.

    Attributes:
        path: The file, relative to the repository.
        line: The line, from 1.
        rule: The rule's name.
        text: The words that break it.
    """

    path: str
    line: int
    rule: str
    text: str


def violations(path: str, text: str) -> Iterator[Violation]:
    """Find the violations in one file.

    Args:
        path: Its path relative to the repository; the suffix selects the syntax.
        text: Its content.
    """
    for line, prose, is_documentation in _prose(path, text):
        if is_documentation and (found := FIRST_WORD.match(prose)):
            yield Violation(path, line, "first-word", found.group())
        for at, sentences in enumerate(prose.splitlines(), line):
            if EXAMPLE.match(sentences):
                continue
            for rule, pattern in (
                ("subject", STARTS_WITH_SUBJECT),
                ("subject", ANYWHERE),
                ("word", BANNED),
                ("verb", VERB),
            ):
                for found in pattern.finditer(sentences):
                    yield Violation(path, at, rule, found.group().strip(" .;:!?"))


def _prose(path: str, text: str) -> Iterator[tuple[int, str, bool]]:
    """Iterate over the texts for readers: line, text, and whether it is a docstring."""
    if path.endswith((".py", ".pyi")):
        yield from _python_prose(text)
    elif path.endswith(".rs"):
        yield from _rust_prose(text)
    else:
        for number, line in enumerate(text.splitlines(), 1):
            yield number, line, False


def _python_prose(text: str) -> Iterator[tuple[int, str, bool]]:
    kinds = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, kinds) and (docstring := ast.get_docstring(node)):
            yield node.body[0].lineno, docstring, True
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type == tokenize.COMMENT:
            yield token.start[0], token.string.lstrip("# "), False


def _rust_prose(text: str) -> Iterator[tuple[int, str, bool]]:
    is_first = True
    for number, line in enumerate(text.splitlines(), 1):
        found = re.match(r"\s*//(?P<kind>[/!]?) ?(?P<text>.*)", line)
        if found is None:
            is_first = True
            continue
        yield number, found["text"], is_first and bool(found["kind"])
        is_first = False


def check(root: Path) -> list[Violation]:
    """Find all violations in a repository.

    Args:
        root: Its top folder.
    """
    found: list[Violation] = []
    for file in _files(root):
        path = file.relative_to(root).as_posix()
        if path not in EXEMPT:
            found += violations(path, file.read_text(encoding="utf-8"))
    return found


def _files(root: Path) -> Iterator[Path]:
    for part in PARTS[:-1]:
        for suffix in ("py", "pyi", "rs", "md"):
            yield from sorted((root / part).rglob(f"*.{suffix}"))
    for name in PAGES:
        yield root / name


def _key(violation: Violation) -> tuple[str, str]:
    part = violation.path.partition("/")[0]
    return (part if part in PARTS else "pages", violation.rule)


def main(arguments: list[str]) -> int:
    """Check the repository that holds this file."""
    found = check(LIMITS.parent.parent)
    counts = Counter(map(_key, found))
    limits = tomllib.loads(LIMITS.read_text()) if LIMITS.exists() else {}
    allowed = {(p, r): n for p, rules in limits.items() for r, n in rules.items()}
    if arguments == ["--update"]:
        _write({key: min(n, allowed.get(key, n)) for key, n in counts.items()})
        return 0
    too_many = {key for key, count in counts.items() if count > allowed.get(key, 0)}
    for violation in found:
        if _key(violation) in too_many:
            print(  # noqa: T201 - its output
                f"{violation.path}:{violation.line}: {violation.rule}: {violation.text}"
            )
    for part, rule in sorted(too_many):
        count, limit = counts[part, rule], allowed.get((part, rule), 0)
        print(f"{part}: {count} violations of {rule!r}, at most {limit}")  # noqa: T201
    return bool(too_many)


def _write(counts: dict[tuple[str, str], int]) -> None:
    lines = ["# Violations that are still allowed; see check_language.py.\n"]
    for part in sorted({part for part, _ in counts}):
        lines.append(f"\n[{part}]\n")
        rules = sorted((rule, n) for (p, rule), n in counts.items() if p == part and n)
        lines += [f"{rule} = {n}\n" for rule, n in rules]
    LIMITS.write_text("".join(lines))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
