"""`eventbraid streams`: the streams of a store, and the number of events of each."""

from __future__ import annotations

import click

from eventbraid.cli._exit import Exit
from eventbraid.cli._opening import look_at_store, read_only_option
from eventbraid.cli._options import json_option, prefix_option, system_option
from eventbraid.cli._store_choice import store_argument

_EPILOG = """\b
Examples:
  eventbraid streams shop.braid
  eventbraid streams shop.braid --prefix order- --json
"""
_VERSION_WIDTH = 9


@click.command(epilog=_EPILOG)
@store_argument()
@prefix_option()
@system_option()
@read_only_option()
@json_option("Print JSON, one stream per line: stream, version.")
def streams(
    *,
    location: str,
    prefix: str | None,
    system: bool,
    read_only: bool,
    as_json: bool,
) -> Exit:
    """Print the version and the name of each stream, by name.

    A stream's version is the number of its events.
    """
    from eventbraid.cli._output import output, printable

    count = 0
    with look_at_store(location, read_only=read_only) as store, output() as out:
        for stream in store.streams(prefix, system=system):
            count += 1
            version = store.version(stream)
            if as_json:
                out.json({"stream": stream, "version": version})
            else:
                out.line(f"{version:>{_VERSION_WIDTH},}  {printable(stream)}")
    if not count and not as_json:
        click.echo("no streams", err=True)
    return Exit.FINE
