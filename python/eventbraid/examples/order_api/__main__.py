"""`python -m eventbraid.examples.order_api`: the web server and its workers."""

from __future__ import annotations

import os
from pathlib import Path

import click
import uvicorn

from .app import BODY_TIMEOUT, BODY_TIMEOUT_VARIABLE, STORE_VARIABLE
from .connections import MOST_CONNECTIONS, BoundedHttpProtocol


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
@click.option(
    "--connections",
    type=click.IntRange(min=1),
    default=MOST_CONNECTIONS,
    show_default=True,
    help="The maximum number of connections of each worker; beyond it, 503.",
)
@click.option(
    "--body-timeout",
    type=click.FloatRange(min=0, min_open=True),
    default=BODY_TIMEOUT,
    show_default=True,
    help="Seconds within which a request's body must arrive; then it gets 408.",
)
def main(
    store: Path,
    *,
    host: str,
    port: int,
    workers: int,
    connections: int,
    body_timeout: float,
) -> None:
    """Take orders over HTTP, and keep them in STORE, which is made on first use.

    A worker that dies is replaced. Ctrl-C ends them all.
    """
    # Workers are new processes: what they are to know stands in their environment.
    os.environ[STORE_VARIABLE] = str(store.resolve())
    os.environ[BODY_TIMEOUT_VARIABLE] = str(body_timeout)
    uvicorn.run(
        "eventbraid.examples.order_api.app:from_environment",
        factory=True,
        host=host,
        port=port,
        workers=workers,
        http=BoundedHttpProtocol,
        # The server refuses at the limit, not above it.
        limit_concurrency=connections + 1,
        access_log=False,
        timeout_graceful_shutdown=10,
    )


if __name__ == "__main__":
    main()
