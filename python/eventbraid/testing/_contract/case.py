"""What all parts of the suite share: the backend, and a store of it."""

from __future__ import annotations

import importlib.util
from typing import TYPE_CHECKING, ClassVar

import pytest

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from eventbraid.testing._contract.backend import StoreBackend, StoreUnderTest

_LOOPS = ["asyncio", *(["trio"] if importlib.util.find_spec("trio") else [])]


class ContractCase:
    """The fixtures of every part of the suite."""

    pytestmark: ClassVar[list[pytest.MarkDecorator]] = [pytest.mark.anyio]

    @pytest.fixture
    def backend(self) -> StoreBackend:
        """The backend under test: a fresh place for each test."""
        message = "give your subclass of StoreContract a fixture named `backend`"
        raise NotImplementedError(message)

    @pytest.fixture(params=_LOOPS)
    def anyio_backend(self, request: pytest.FixtureRequest) -> str:
        """The event loops: asyncio, and trio if it is installed."""
        return str(request.param)

    @pytest.fixture
    async def store(
        self,
        backend: StoreBackend,
        anyio_backend: str,  # noqa: ARG002 - the loop must run before the store opens
    ) -> AsyncIterator[StoreUnderTest]:
        """An open, empty store."""
        async with backend.open() as opened:
            yield opened

    @pytest.fixture
    def durable(self, backend: StoreBackend) -> StoreBackend:
        """A backend whose store outlives its closing."""
        if not backend.durable:
            pytest.skip("the backend is not durable: its store ends with its closing")
        return backend

    @pytest.fixture
    def shared(self, backend: StoreBackend) -> StoreBackend:
        """A backend whose store may be open several times at once."""
        if not backend.shared:
            pytest.skip("the backend is not shared: one opening at a time")
        return backend
