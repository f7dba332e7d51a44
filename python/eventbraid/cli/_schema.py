"""`eventbraid schema`: the schema of an application's events, and its changes."""

from __future__ import annotations

import sys
from dataclasses import asdict
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

import click

import eventbraid as eb
from eventbraid.cli._exit import Exit
from eventbraid.cli._options import json_option

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from click.decorators import FC

    from eventbraid.event import EventRegistry, SchemaChange

_EPILOG = """\
APP is the module that registers the events, such as shop.events, or a registry in it:
shop.events:registry. It is imported from the working directory or from the installed
packages. With several modules, repeat --app.
"""

_CHECK_EPILOG = f"""\
{_EPILOG}
Exit codes: 0 nothing breaks; 1 a change is breaking, or with --exact the file is not
current; 2 misuse: the module or the file can't be read.

\b
Fields of a change with --json, one object per line:
  breaking  true or false
  kind      event_removed, event_renamed, former_name_removed, version_unreadable,
            field_removed, field_required, type_changed, registry_invalid, not_current;
            not breaking: event_added, event_renamed, version_added, field_added,
            type_widened, default_changed
  event, version, field, message

\b
Examples:
  eventbraid schema dump --app shop.events --output events.json
  eventbraid schema check --app shop.events --against events.json
"""


@click.group()
def schema() -> None:
    """The schema of an application's events."""


def _app_option() -> Callable[[FC], FC]:
    return click.option(
        "--app",
        "apps",
        required=True,
        multiple=True,
        metavar="APP",
        help="The module that registers the events, or module:registry.",
    )


@schema.command(epilog=_EPILOG)
@_app_option()
@click.option(
    "--output",
    type=click.Path(dir_okay=False, writable=True, path_type=Path),
    help="The file to write; by default, standard output.",
)
def dump(*, apps: tuple[str, ...], output: Path | None) -> Exit:
    """Write the schema of all registered events, as JSON.

    The same events give the same text, so the file can be kept under version control
    and reviewed in a diff.
    """
    from eventbraid.cli._output import output as standard_output
    from eventbraid.event import event_schema, schema_text

    registry = _registry_of(apps)
    registry.validate()
    text = schema_text(event_schema(registry=registry))
    if output is not None:
        output.write_text(text, encoding="utf-8")
        return Exit.FINE
    with standard_output() as out:
        out.line(text.removesuffix("\n"))
    return Exit.FINE


@schema.command(epilog=_CHECK_EPILOG)
@_app_option()
@click.option(
    "--against",
    required=True,
    metavar="FILE",
    type=click.Path(exists=True, dir_okay=False, readable=True, path_type=Path),
    help="A file that `schema dump` has written, of the events that stores contain.",
)
@click.option(
    "--exact", is_flag=True, help="Also fail if the file is not what dump would write."
)
@json_option("Print JSON, one change per line.")
def check(*, apps: tuple[str, ...], against: Path, exact: bool, as_json: bool) -> Exit:
    """Compare the registered events with a schema file.

    It fails if events of that schema can't be read any more, or lose a field.
    """
    from eventbraid.event import event_schema, schema_changes, schema_of_text

    try:
        before = schema_of_text(against.read_bytes())
    except eb.errors.InvalidArgument as error:
        message = f"{str(against)!a} is not a schema file: {error.reason}"
        raise click.BadParameter(message, param_hint="'--against'") from error
    registry = _registry_of(apps)
    after = event_schema(registry=registry)
    changes = _changes(_problems_of(registry), schema_changes(before, after))
    if exact and before != after and not any(one.is_breaking for one in changes):
        changes.insert(0, _not_current(against, apps))
    _print(changes, as_json=as_json)
    return Exit.OFF if any(one.is_breaking for one in changes) else Exit.FINE


def _changes(
    problems: list[SchemaChange], changes: Iterable[SchemaChange]
) -> list[SchemaChange]:
    """Return the problems of the registry, and the changes that they don't explain."""
    invalid = {one.event for one in problems}
    return problems + [
        one
        for one in changes
        if one.kind != "version_unreadable" or one.event not in invalid
    ]


def _problems_of(registry: EventRegistry) -> list[SchemaChange]:
    from eventbraid.event import SchemaChange

    return [
        SchemaChange("registry_invalid", name, None, None, reason)
        for name, reason in registry.problems()
    ]


def _not_current(file: Path, apps: tuple[str, ...]) -> SchemaChange:
    from eventbraid.event import SchemaChange

    options = " ".join(f"--app {app}" for app in apps)
    command = f"eventbraid schema dump {options} --output {file}"
    return SchemaChange(
        "not_current",
        "",
        None,
        None,
        f"{file} is not current; run `{command}`",
    )


def _registry_of(apps: tuple[str, ...]) -> EventRegistry:
    """Import the modules, and return the registry in which they register events.

    Raises:
        click.BadParameter: A module or a registry can't be found or imported, or the
            modules have different registries.
    """
    # As for `python -m`: an application is usually run from its own directory.
    sys.path.insert(0, str(Path.cwd()))
    found = [_one_registry(app) for app in apps]
    if any(registry is not found[0] for registry in found):
        raise _bad_app("the modules have different registries; check them one by one")
    return found[0]


def _one_registry(app: str) -> EventRegistry:
    from eventbraid.event import EventRegistry, default_registry

    name, colon, path = app.partition(":")
    if not all(part.isidentifier() for part in name.split(".")):
        raise _bad_app(
            f"{app!a} is not the name of a module, such as shop.events; name a module, "
            "not a file"
        )
    registry: object = _imported(name)
    if not colon:
        return default_registry
    for attribute in path.split("."):
        if not hasattr(registry, attribute):
            raise _bad_app(f"{app!a}: there is no {attribute!a} in {name}")
        registry = getattr(registry, attribute)
    if not isinstance(registry, EventRegistry):
        kind = type(registry).__name__
        raise _bad_app(f"{app!a} is of type {kind}, expected an EventRegistry")
    return registry


def _imported(name: str) -> object:
    try:
        return import_module(name)
    except ModuleNotFoundError as error:
        missing = error.name or name
        if f"{name}.".startswith(f"{missing}."):
            raise _bad_app(
                f"there is no module {missing!a} in {str(Path.cwd())!a} or among the "
                "installed packages"
            ) from error
        raise _import_error(name, error) from error
    except (Exception, SystemExit) as error:
        # The application's module may raise anything. If `sys.exit(0)` passed, the
        # check would seem to succeed.
        raise _import_error(name, error) from error


def _import_error(name: str, error: BaseException) -> click.BadParameter:
    return _bad_app(
        f"the import of {name!a} raises {type(error).__name__}: {error}; set "
        "EVENTBRAID_DEBUG=1 to see the traceback"
    )


def _bad_app(message: str) -> click.BadParameter:
    return click.BadParameter(message, param_hint="'--app'")


def _print(changes: list[SchemaChange], *, as_json: bool) -> None:
    from eventbraid.cli._output import counted, output, printable

    breaking = sum(one.is_breaking for one in changes)
    with output() as out:
        for one in changes:
            if as_json:
                facts = asdict(one)
                out.json({"breaking": facts.pop("is_breaking"), **facts})
                continue
            colour, label = ("red", "BREAKING") if one.is_breaking else ("green", "ok")
            text = printable(f"{_place_of(one)}{one.message}")
            out.line(f"{out.styled(f'{label:<8}', colour=colour)}  {text}")
        if not as_json:
            out.line(
                f"{counted(len(changes), 'change')}, {breaking} of them breaking"
                if changes
                else "no changes"
            )


def _place_of(change: SchemaChange) -> str:
    place = change.event
    if change.version is not None:
        place += f" version {change.version}"
    if change.field is not None:
        place += f", {change.field}"
    return f"{place}: " if place else ""
