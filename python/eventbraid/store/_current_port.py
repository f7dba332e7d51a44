"""The completion port and the ticker of the running event loop."""

from __future__ import annotations

import asyncio
import sys
from typing import TYPE_CHECKING

from eventbraid.store import _asyncio_port

if TYPE_CHECKING:
    from eventbraid.store._completion_port import LoopPort
    from eventbraid.store._ticker import Ticker


def current_port() -> LoopPort:
    """Return the port of the running event loop; make it if there is none.

    Raises:
        RuntimeError: No event loop of asyncio or trio runs here.
    """
    try:
        loop = asyncio.get_running_loop()
    except RuntimeError:
        return _port_of_trio()
    return _asyncio_port.current_port(loop)


def current_ticker() -> Ticker:
    """Return the ticker of the running event loop; make it if there is none.

    Raises:
        RuntimeError: No event loop of asyncio or trio runs here.
    """
    try:
        loop = asyncio.get_running_loop()
    except RuntimeError:
        return _ticker_of_trio()
    return _asyncio_port.current_ticker(loop)


# If trio was never imported, no trio loop runs; importing it would be in vain.


def _port_of_trio() -> LoopPort:
    if "trio" in sys.modules:
        from eventbraid.store import _trio_port  # noqa: PLC0415 - trio is optional

        if _trio_port.is_running():
            return _trio_port.current_port()
    message = "no asyncio or trio event loop runs here; use eventbraid.open instead"
    raise RuntimeError(message)


def _ticker_of_trio() -> Ticker:
    if "trio" in sys.modules:
        from eventbraid.store import _trio_port  # noqa: PLC0415 - trio is optional

        if _trio_port.is_running():
            return _trio_port.current_ticker()
    message = "no asyncio or trio event loop runs here"
    raise RuntimeError(message)
