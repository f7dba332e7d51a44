"""No import points upwards, and the engine stays free of Python.

An upward import is the first thread of a knot: it works today and makes the lower
part impossible to test, replace or move on its own tomorrow.
"""

from __future__ import annotations

import ast
import graphlib
import shutil
import subprocess
import sys
from pathlib import Path

import grimp
import pytest

BELOW_THE_FACE = ("saga", "command", "event", "domain", "store", "errors")


@pytest.fixture(scope="module")
def imports():
    return grimp.build_graph("eventbraid", cache_dir=None)


def test_imports_point_downwards(repository):
    done = subprocess.run(
        [Path(sys.executable).with_name("lint-imports"), "--no-cache"],
        cwd=repository,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("layer", BELOW_THE_FACE)
def test_no_layer_imports_the_public_face(imports, layer):
    """`import eventbraid` inside the package would reach every layer at once."""
    top = f"eventbraid.{layer}"
    modules = {top} | imports.find_descendants(top)
    users = {
        module
        for module in modules
        if "eventbraid" in imports.find_modules_directly_imported_by(module)
    }
    assert users == set()


# Imports for annotations, and of the other face by the method that returns it.
ALLOWED = {
    ("eventbraid.store._loop_face", "eventbraid.store._sync_store"),
    (
        "eventbraid.examples.order_fulfilment.coordinators",
        "eventbraid.examples.order_fulfilment.demo",
    ),
}


def test_no_two_modules_import_each_other_in_a_circle(imports):
    """Modules of a circle can only be understood, tested and replaced together."""
    graph = {
        module: {
            imported
            for imported in imports.find_modules_directly_imported_by(module)
            if (module, imported) not in ALLOWED
        }
        for module in imports.modules
    }
    graphlib.TopologicalSorter(graph).prepare()


@pytest.mark.parametrize(
    "layer", ["command", "lease", "saga", "testing", "web", "examples", "cli"]
)
def test_no_layer_looks_behind_the_interface_of_a_store(imports, layer, repository):
    """A layer that uses the engine's own store directly can't run on another backend."""
    engine = {
        f"eventbraid.store.{name}" for name in ("_handle", "_async", "_sync", "_reads")
    }
    layers = {f"eventbraid.{layer}"} | imports.find_descendants(f"eventbraid.{layer}")
    for module in layers:
        assert engine.isdisjoint(imports.find_modules_directly_imported_by(module))
    for path in (repository / "python/eventbraid" / layer).rglob("*.py"):
        assert "_handle" not in names_in(path), path


def names_in(path):
    """Return the attributes and strings of a file, without the docstrings."""
    nodes = list(ast.walk(ast.parse(path.read_text())))
    attributes = {node.attr for node in nodes if isinstance(node, ast.Attribute)}
    strings = {node.value for node in nodes if isinstance(node, ast.Constant)}
    return attributes | strings


# The interpreter's own attributes of exceptions, which have no method.
ASSIGNABLE = {"__cause__"}


def foreign_assignments(source: str) -> list[str]:
    """Return the targets of assignments to attributes of other objects than `self`.

    Items count, too: ``other.items[key] = value`` changes what the other object owns.
    """
    found: list[str] = []
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.Assign(targets=targets) | ast.Delete(targets=targets):
                pass
            case ast.AugAssign(target=target) | ast.AnnAssign(target=target):
                targets = [target]
            case _:
                continue
        found += [
            f"{ast.unparse(target)} in line {target.lineno}"
            for whole in targets
            for target in (whole.elts if isinstance(whole, ast.Tuple) else [whole])
            if is_foreign(target)
        ]
    return found


def is_foreign(target: ast.expr) -> bool:
    while isinstance(target, ast.Subscript):
        target = target.value
    if not isinstance(target, ast.Attribute) or target.attr in ASSIGNABLE:
        return False
    owner = target.value
    return not (isinstance(owner, ast.Name) and owner.id in {"self", "cls"})


@pytest.mark.parametrize(
    ("line", "is_refused"),
    [
        ("run.state = None", True),
        ("self.run.state = None", True),
        ("run.count += 1", True),
        ("run.state: int = 1", True),
        ("one, run.state = 1, 2", True),
        ("del run.state", True),
        ("registry.blocked[key] = run", True),
        ("del self.registry.blocked[key]", True),
        ("self.state = None", False),
        ("self.state[key] = None", False),
        ("cls.state = None", False),
        ("state = run.state", False),
        ("found[key] = run", False),
        ("error.__cause__ = other", False),
    ],
)
def test_the_check_of_assignments_sees_what_it_is_for(line, is_refused):
    assert bool(foreign_assignments(line)) is is_refused


@pytest.mark.parametrize("room", ["definition", "machine", "running", "coordination"])
def test_no_code_of_sagas_assigns_to_the_attributes_of_another_object(repository, room):
    """Each piece of mutable state has one owner, and its methods are the only way.

    A field that three files assign to has no invariant that anybody could check.
    """
    folder = repository / "python/eventbraid/saga" / room
    found = {
        path.name: foreign
        for path in sorted(folder.glob("*.py"))
        if (foreign := foreign_assignments(path.read_text()))
    }
    assert found == {}


def test_errors_import_only_errors(imports):
    package = {"eventbraid.errors"} | imports.find_descendants("eventbraid.errors")
    foreign = {
        module: imported
        for module in package
        if (imported := imports.find_modules_directly_imported_by(module) - package)
    }
    assert foreign == {}


@pytest.mark.skipif(shutil.which("cargo") is None, reason="needs cargo")
def test_the_engine_knows_nothing_of_python(repository):
    done = subprocess.run(
        ["cargo", "tree", "--package", "eventbraid-engine", "--prefix", "none"],
        cwd=repository,
        capture_output=True,
        text=True,
        check=True,
    )
    crates = {line.split()[0] for line in done.stdout.splitlines() if line.strip()}
    assert "eventbraid-engine" in crates
    assert not {crate for crate in crates if crate.startswith("pyo3")}
