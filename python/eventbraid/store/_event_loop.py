"""The completion port and the ticker of the running event loop."""

from __future__ import annotations

import asyncio
import sys
from typing import TYPE_CHECKING

from eventbraid.store import _asyncio

if TYPE_CHECKING:
    from eventbraid.store._completion import LoopPort
    from eventbraid.store._ticker import Ticker


def current_port() -> LoopPort:
    """Return the port of the running event loop; make it if there is none.

    Raises:
        RuntimeError: No event loop of asyncio or trio runs here.
    """
    try:
        loop = asyncio.get_running_loop()
    except RuntimeError:
        return _trio_port()
    return _asyncio.current_port(loop)


def current_ticker() -> Ticker:
    """Return the ticker of the running event loop; make it if there is none.

    Raises:
        RuntimeError: No event loop of asyncio or trio runs here.
    """
    try:
        loop = asyncio.get_running_loop()
    except RuntimeError:
        return _trio_ticker()
    return _asyncio.current_ticker(loop)


# If trio was never imported, no trio loop runs; importing it would be in vain.


def _trio_port() -> LoopPort:
    if "trio" in sys.modules:
        from eventbraid.store import _trio  # noqa: PLC0415 - trio is optional

        if _trio.is_running():
            return _trio.current_port()
    message = "no asyncio or trio event loop runs here; use eventbraid.open instead"
    raise RuntimeError(message)


def _trio_ticker() -> Ticker:
    if "trio" in sys.modules:
        from eventbraid.store import _trio  # noqa: PLC0415 - trio is optional

        if _trio.is_running():
            return _trio.current_ticker()
    message = "no asyncio or trio event loop runs here"
    raise RuntimeError(message)
