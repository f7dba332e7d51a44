"""Fixtures of Eventbraid for pytest, which finds this package by its entry point.

It is a package of its own, so that a test run that uses none of the fixtures doesn't
import `eventbraid`. A project's own fixtures of the same names take precedence.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from eventbraid import AsyncEventStore, EventStore, Executor


@pytest.fixture
def store() -> Iterator[EventStore]:
    """An open, empty Eventbraid store in memory, new for each test."""
    import eventbraid

    with eventbraid.open("memory:") as opened:
        yield opened


@pytest.fixture
def executor(store: EventStore) -> Executor:
    """An Eventbraid executor of commands on the fixture `store`."""
    import eventbraid

    return eventbraid.Executor(store)


@pytest.fixture
def async_store(store: EventStore) -> AsyncEventStore:
    """The fixture `store` for asyncio, uvloop and trio."""
    return store.as_async()
