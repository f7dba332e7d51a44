"""`python -m eventbraid.examples.order_api`: the web server and its workers."""

from __future__ import annotations

import os
from pathlib import Path

import click
import uvicorn

from .app import STORE_VARIABLE


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("store", type=click.Path(file_okay=False, path_type=Path))
@click.option("--host", default="127.0.0.1", show_default=True)
@click.option("--port", default=8000, show_default=True)
@click.option(
    "--workers",
    type=click.IntRange(min=1),
    default=4,
    show_default=True,
    help="How many processes serve; all of them on the one store.",
)
def main(store: Path, *, host: str, port: int, workers: int) -> None:
    """Take orders over HTTP, and keep them in STORE, which is made on first use.

    A worker that dies is replaced. Ctrl-C ends them all.
    """
    # Workers are new processes: what they are to know stands in their environment.
    os.environ[STORE_VARIABLE] = str(store.resolve())
    uvicorn.run(
        "eventbraid.examples.order_api.app:from_environment",
        factory=True,
        host=host,
        port=port,
        workers=workers,
        access_log=False,
        timeout_graceful_shutdown=10,
    )


if __name__ == "__main__":
    main()
