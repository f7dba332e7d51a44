"""The command `eventbraid` and its subcommands."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING

import click

from eventbraid.cli._append import append
from eventbraid.cli._exit import Exit, explain
from eventbraid.cli._read import read
from eventbraid.cli._saga import saga
from eventbraid.cli._schema import schema
from eventbraid.cli._stats import stats
from eventbraid.cli._streams import streams
from eventbraid.cli._tail import tail
from eventbraid.cli._verify import verify
from eventbraid.cli.bench import bench
from eventbraid.cli.demo import demo

if TYPE_CHECKING:
    from collections.abc import Sequence

EPILOG = """\
STORE, a store's directory, is named in the same way for every command: as the first
argument, with --store, or in the environment variable EVENTBRAID_STORE.

Exit codes: 0 success; 1 done, with a problem (reconciliation failed, a saga is stuck, a
store is damaged); 2 misuse; 3 the store, a ledger or the system refused; 4 a bug;
130 Ctrl-C; 141 the reader of the output has closed it.
"""


def run(arguments: Sequence[str]) -> int:
    """Run the command line and return its exit code.

    Args:
        arguments: The arguments after the name of the command.
    """
    try:
        code = eventbraid.main(
            list(arguments), prog_name="eventbraid", standalone_mode=False
        )
    except (Exception, KeyboardInterrupt) as error:  # noqa: BLE001 - all are reported
        return explain(error)
    return code if isinstance(code, int) else Exit.FINE


def _print_version(
    context: click.Context,
    _: click.Parameter,
    wanted: bool,  # noqa: FBT001 - click calls it so
) -> None:
    if wanted:
        click.echo(f"eventbraid {_version()}")
        context.exit()


def _version() -> str:
    try:
        return version("eventbraid")
    except PackageNotFoundError:
        return "(not installed: run from its source tree)"


class _Commands(click.Group):
    """The group of commands; a broken pipe has an exit code of its own."""

    def invoke(self, ctx: click.Context) -> object:
        try:
            return super().invoke(ctx)
        except BrokenPipeError as error:
            return explain(error)


@click.group(
    cls=_Commands,
    epilog=EPILOG,
    context_settings={"help_option_names": ["-h", "--help"]},
)
@click.option(
    "--version",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_print_version,
    help="Print the version and exit.",
)
def eventbraid() -> None:
    """The embedded event store whose commands span many streams."""


for command in (
    append,
    bench,
    demo,
    read,
    saga,
    schema,
    stats,
    streams,
    tail,
    verify,
):
    eventbraid.add_command(command)
