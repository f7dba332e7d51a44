"""Both faces have the same methods, and each documents them in full.

The hazard: a method whose documentation refers to that of another class, so that `help()`
and an editor show nothing, and a face that lags behind the other one after a change.
"""

from __future__ import annotations

import importlib.util
import inspect
import tomllib

import pytest

import eventbraid as eb
from eventbraid import store

CLASSES = [
    (eb.AsyncEventStore, eb.EventStore),
    (eb.AsyncExecutor, eb.Executor),
    (eb.AsyncLease, eb.Lease),
    (eb.AsyncSubscription, eb.Subscription),
    (store.AsyncTypedSubscription, store.TypedSubscription),
]
PROTOCOLS = [(store.AsyncStore, store.Store)]
ONE_FACE_ONLY = {"as_sync", "as_async"}
REFERENCES = ("As for `", "as for `", " As `", "applies here")


def public(face):
    names = {name for name in dir(face) if not name.startswith("_")}
    return {name: getattr(face, name) for name in names - ONE_FACE_ONLY}


def methods(pairs):
    """Return the pairs of methods of pairs of classes, and pairs of functions."""
    found = [
        pytest.param(method, public(other).get(name), id=f"{other.__name__}.{name}")
        for face, other in pairs
        for name, method in public(face).items()
    ]
    return [*found, pytest.param(eb.open_async, eb.open, id="open")]


def parameters(function):
    if not inspect.isroutine(function) and not inspect.isclass(function):
        return {}
    found = dict(inspect.signature(function).parameters)
    found.pop("self", None)
    return {name: one.replace(annotation=None) for name, one in found.items()}


def documented(thing, other):
    return [
        (parameters(thing), inspect.getdoc(thing) or ""),
        (parameters(other), inspect.getdoc(other) or ""),
    ]


@pytest.mark.parametrize(
    "faces", CLASSES + PROTOCOLS, ids=lambda pair: pair[1].__name__
)
def test_both_faces_have_the_same_methods(faces):
    assert public(faces[0]).keys() == public(faces[1]).keys()


@pytest.mark.parametrize(("method", "other"), methods(CLASSES + PROTOCOLS))
def test_both_faces_take_the_same_arguments(method, other):
    assert parameters(method) == parameters(other)


@pytest.mark.parametrize(("method", "other"), methods(CLASSES))
def test_a_method_documents_each_argument_on_both_faces(method, other):
    for arguments, text in documented(method, other):
        assert not [name for name in arguments if f"\n    {name}:" not in text], text


@pytest.mark.parametrize(("thing", "other"), [*methods(CLASSES), *CLASSES, *PROTOCOLS])
def test_the_documentation_of_both_faces_is_complete(thing, other):
    [(_, text), (_, other_text)] = documented(thing, other)
    for one in (text, other_text):
        assert one
        assert not [reference for reference in REFERENCES if reference in one]
    for section in ("Args:", "Returns:", "Raises:", "Example:"):
        assert (section in text) == (section in other_text), section


@pytest.mark.parametrize("face", [eb.AsyncEventStore, eb.EventStore])
def test_every_method_of_a_store_has_an_example(face):
    lacking = [
        name
        for name in dir(face)
        if not name.startswith("_")
        and callable(getattr(face, name))
        and ">>> " not in (getattr(face, name).__doc__ or "")
    ]
    assert not lacking


@pytest.fixture(scope="module")
def script(repository):
    path = repository / "scripts" / "generate_sync.py"
    spec = importlib.util.spec_from_file_location("generate_sync", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_generated_modules_are_current(script):
    assert [path.name for _, path, _ in script.stale_modules()] == []


def test_a_change_of_a_source_changes_the_generated_module(script):
    [module, *_] = tomllib.loads(script.MODULES.read_text())["module"]
    source, target = module["source"], module["target"]
    text = (script.PACKAGE / source).read_text()
    changed = text.replace('"""Close it."""', '"""Close the store."""')
    new = script.generated(source, target, module["replacements"], changed)
    assert '"""Close the store."""' in new
    assert "await " not in new
    with pytest.raises(script.TextMissing, match="no longer has"):
        script.generated(source, target, module["replacements"], "")
