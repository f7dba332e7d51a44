#!/usr/bin/env python3
"""Generates the modules without an event loop from those for event loops.

The modules are listed in `generated_modules.toml`.

Usage:
    scripts/generate_sync.py           writes the generated modules
    scripts/generate_sync.py --check   fails if one of them is not current

The rules, besides the replacements of the module:
    1. A block `if not ASYNC:` is the body of the synchronous function, from there on.
    2. `await`, and `async` before `def`, `for` and `with`, are left out.
    3. The example of a docstring loses its `main()` and the call of `asyncio.run`.
    4. Names change by `NAMES`.
    5. Unused imports are removed, imports sorted and the module formatted, by ruff.
"""

from __future__ import annotations

import argparse
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

REPOSITORY = Path(__file__).resolve().parents[1]
PACKAGE = REPOSITORY / "python" / "eventbraid"
MODULES = REPOSITORY / "scripts" / "generated_modules.toml"

NAMES = {
    "AsyncEventStore": "EventStore",
    "AsyncExecutor": "Executor",
    "AsyncFaultyStore": "FaultyStore",
    "AsyncIterator": "Iterator",
    "AsyncLease": "Lease",
    "AsyncStore": "Store",
    "AsyncSubscription": "Subscription",
    "AsyncTypedSubscription": "TypedSubscription",
    "LoopFace": "ThreadFace",
    "LoopPort": "ThreadPort",
    "OpenedStore": "EventStore",
    "__aenter__": "__enter__",
    "__aexit__": "__exit__",
    "_loop_face": "_thread_face",
    "_loop_port": "_thread_port",
    "begin_async_read": "begin_read",
    "open_async": "open",
}


HEADER = """
# Generated from {source} by scripts/generate_sync.py; don't edit it.
"""


class TextMissing(ValueError):
    """A source no longer has a text that is to be replaced."""


def generated(
    source: str, target: str, replacements: Iterable[dict[str, str]], text: str
) -> str:
    """Return the module that is generated from the text of another one.

    Args:
        source: The path of the source, within the package.
        target: The path of the generated module, within the package.
        replacements: Texts and what replaces them, as `old` and `new`.
        text: The content of the source.

    Raises:
        TextMissing: The source lacks a text that is to be replaced.
    """
    inserted: dict[str, str] = {}
    for number, replacement in enumerate(replacements):
        old = r"\s+".join(re.escape(word) for word in replacement["old"].split())
        # A placeholder, so that the rules change no name in what is inserted.
        placeholder = f"\0{number}\0"
        inserted[placeholder] = replacement["new"].removeprefix("\n")
        text, count = re.subn(old, placeholder, text)
        if not count:
            message = f"{source} no longer has the text {replacement['old']!r}"
            raise TextMissing(message)
    lines = list(_synchronous_bodies(text.splitlines()))
    lines = [_synchronous(line) for line in _examples(lines)]
    docstring_end = next(n for n, line in enumerate(lines) if line.endswith('"""'))
    lines.insert(docstring_end + 1, HEADER.format(source=Path(source).name))
    new = "\n".join(lines) + "\n"
    for placeholder, text in inserted.items():
        new = new.replace(placeholder, text)
    return _formatted(new, target)


def _synchronous_bodies(lines: Iterable[str]) -> Iterator[str]:
    """Replace the rest of a function that has a block `if not ASYNC:` by this block."""
    block = ""
    state = "outside"
    for line in lines:
        indentation = line[: len(line) - len(line.lstrip())]
        if line.strip() == "if not ASYNC:":
            state, block = "inside", indentation
            continue
        is_end = line.strip() and len(indentation) <= len(block)
        if state == "inside" and (is_end or line.strip() == "return"):
            state = "after"
        if state == "after" and line.strip() and len(indentation) < len(block):
            state = "outside"
            yield ""
        if state == "inside":
            yield line.removeprefix("    ")
        elif state == "outside":
            yield line


def _examples(lines: Iterable[str]) -> Iterator[str]:
    """Take the statements of an example out of its `async def main()`."""
    is_in_main = False
    for line in lines:
        statement = line.strip()
        if statement == ">>> import asyncio" or statement.startswith(
            ">>> asyncio.run(main())"
        ):
            is_in_main = False
        elif statement.startswith(">>> async def main("):
            is_in_main = True
        elif is_in_main and statement.startswith("...     "):
            code = statement.removeprefix("...     ")
            is_continued = code.startswith((" ", ")", "]", "}"))
            yield line.replace(statement, f"{'...' if is_continued else '>>>'} {code}")
        else:
            is_in_main = False
            yield line


def _synchronous(line: str) -> str:
    """Return a line without `async` and `await`, with the names of the other face."""
    line = re.sub(r"\basync (def|for|with)\b", r"\1", line)
    line = line.replace("an ``async with``", "a ``with``")
    line = re.sub(r"\bawait ", "", line)
    line = re.sub(r"\bAwaitable\[(.*)\]", r"\1", line)
    return re.sub(
        r"\b\w+\b", lambda found: NAMES.get(found.group(), found.group()), line
    )


def _formatted(text: str, target: str) -> str:
    """Return a module without unused imports, in the project's format."""
    for command in (
        ("check", "--fix-only", "--quiet", "--unsafe-fixes", "--select=F401,I,TC"),
        ("format", "--quiet"),
    ):
        text = subprocess.run(
            [_ruff(), *command, f"--stdin-filename={PACKAGE / target}", "-"],
            input=text,
            capture_output=True,
            text=True,
            check=True,
            cwd=REPOSITORY,
        ).stdout
    return text


def _ruff() -> str:
    beside = Path(sys.executable).with_name("ruff")
    found = str(beside) if beside.exists() else shutil.which("ruff")
    if found is None:
        sys.exit("ruff is missing: ./scripts/test tools installs it")
    return found


def stale_modules() -> Iterator[tuple[str, Path, str]]:
    """Iterate over the modules that are not current.

    Yields:
        The path of the source within the package, the path of the generated module,
        and the text that it should have.
    """
    for module in tomllib.loads(MODULES.read_text())["module"]:
        source, target = module["source"], module["target"]
        text = (PACKAGE / source).read_text()
        new = generated(source, target, module["replacements"], text)
        path = PACKAGE / target
        if not path.exists() or path.read_text() != new:
            yield source, path, new


def main() -> int:
    """Write the generated modules, or check that they are current."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="write nothing")
    is_check = parser.parse_args().check
    stale = list(stale_modules())
    for source, path, text in stale:
        if not is_check:
            path.write_text(text)
            continue
        sys.stderr.write(
            f"{path.relative_to(REPOSITORY)} does not agree with {source}: change that "
            "module and run scripts/generate_sync.py\n"
        )
    return 1 if stale and is_check else 0


if __name__ == "__main__":
    sys.exit(main())
