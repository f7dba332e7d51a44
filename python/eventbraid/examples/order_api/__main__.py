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
    help="The number of worker processes; they share the store.",
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
    help="Seconds within which a request's body must arrive; later, 408.",
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
    """Accept orders over HTTP, and record them in STORE, created on first use.

    A worker that dies is replaced. Ctrl-C ends all workers.
    """
    # Workers are new processes; they read their options from the environment.
    os.environ[STORE_VARIABLE] = str(store.resolve())
    os.environ[BODY_TIMEOUT_VARIABLE] = str(body_timeout)
    uvicorn.run(
        "eventbraid.examples.order_api.app:from_environment",
        factory=True,
        host=host,
        port=port,
        workers=workers,
        http=BoundedHttpProtocol,
        # The server refuses the connection that reaches its limit.
        limit_concurrency=connections + 1,
        access_log=False,
        timeout_graceful_shutdown=10,
    )


if __name__ == "__main__":
    main()
