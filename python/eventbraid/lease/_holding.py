"""Acquires and releases a lease: the code that `Lease` and `AsyncLease` share."""

from __future__ import annotations

import os
import time
from contextlib import suppress
from types import MappingProxyType
from typing import TYPE_CHECKING

from eventbraid._logging import LEASE
from eventbraid.errors import (
    EventbraidError,
    InvalidArgument,
    LeaseHeld,
    LeaseLost,
    VersionConflict,
)
from eventbraid.lease._holder import register_holder, unregister_holder
from eventbraid.lease._liveness import Liveness, validate_stale_after
from eventbraid.lease._state import (
    LeaseState,
    acquired,
    held_error,
    lost_error,
    released,
    validate_name,
)
from eventbraid.store._duration import duration_seconds

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from datetime import timedelta

    from typing_extensions import Buffer

    from eventbraid.lease._port import Port
    from eventbraid.store import Appended, Expectation, NewEvent

_POLL_SECONDS = 0.05


class Holding:
    """One acquisition of a lease: its holder, and its fencing token."""

    __slots__ = (
        "_attempted_token",
        "_holder",
        "_port",
        "_process",
        "_session",
        "_stale_after",
        "_stream",
        "_wait",
        "name",
        "token",
    )

    def __init__(
        self, port: Port, name: str, stale_after: timedelta, wait: timedelta | None
    ) -> None:
        """Validate the arguments; nothing is acquired yet.

        Raises:
            InvalidArgument: The name or a duration is out of its limits.
        """
        self._port = port
        self._stream = validate_name(name)
        self._stale_after = validate_stale_after(
            duration_seconds("stale_after", stale_after)
        )
        self._wait = None if wait is None else duration_seconds("wait", wait)
        self.name = name
        self.token = 0
        self._attempted_token = 0
        self._process = os.getpid()
        self._session = ""
        self._holder = ""

    @property
    def fence(self) -> Mapping[str, int]:
        """The expectation that each append under the lease must have.

        Raises:
            InvalidArgument: The parent of this forked process acquired the lease.
        """
        if self._process != os.getpid():
            reason = (
                "the parent of this forked process acquired it and alone holds it; "
                "acquire a lease in this process"
            )
            raise InvalidArgument("lease", self.name, reason)
        return MappingProxyType({self._stream: self.token})

    async def acquire(self) -> None:
        """Acquire the lease; wait at most the allowed time while another holder has it.

        Raises:
            LeaseHeld: Another holder has it.
            InvalidArgument: This object acquired it before.
        """
        self._register()
        began = time.monotonic()
        try:
            while not await self._is_acquired_now(began):
                await self._port.sleep(_POLL_SECONDS)
        except BaseException:
            try:
                with self._port.shield():
                    await self._release_if_acquired()
            finally:
                unregister_holder(self._holder)
            raise

    async def release(self, error: BaseException | None) -> None:
        """Release the lease after its block.

        Args:
            error: The exception that the block raised, if any.

        Raises:
            LeaseLost: Another holder has acquired the lease, as the conflict that the
                block raised shows, or the release itself.
        """
        try:
            if isinstance(error, VersionConflict):
                self._raise_if_lost(error)
            with self._port.shield():
                await self._append_release()
        except EventbraidError as failure:
            if error is None or isinstance(failure, LeaseLost):
                raise
            error.add_note(f"lease {self.name!r} was not released: {failure}")
        finally:
            unregister_holder(self._holder)

    async def append(
        self,
        events: Iterable[NewEvent | tuple[str, str, Buffer]],
        expect: Mapping[str, Expectation] | None,
        idempotency_key: str | None,
    ) -> Appended:
        """Append events if the lease is still held.

        Raises:
            LeaseLost: Another holder acquired the lease; nothing was written.
            EventbraidError: The store refused the append, for the same reasons as an
                append without a lease.
        """
        fenced = {**(expect or {}), **self.fence}
        try:
            return await self._port.append(
                events, expect=fenced, idempotency_key=idempotency_key
            )
        except VersionConflict as conflict:
            self._raise_if_lost(conflict)
            raise

    def end_with_process(self) -> None:
        """End the holder without a record, as if its process had died."""
        unregister_holder(self._holder)

    def _register(self) -> None:
        if self._holder:
            reason = "this object acquired it before; make another one"
            raise InvalidArgument("lease", self.name, reason)
        self._process = os.getpid()
        self._session = self._port.coordination.start_heartbeat()
        self._holder = register_holder(self._session, self._port.heartbeat())

    async def _is_acquired_now(self, began: float) -> bool:
        try:
            await self._try_to_acquire()
        except LeaseHeld:
            is_late = self._wait is not None and time.monotonic() - began >= self._wait
            if is_late:
                raise
            return False
        return True

    async def _try_to_acquire(self) -> None:
        state = await self._state()
        ages = await self._port.heartbeat_ages()
        liveness = Liveness(self._session, ages, self._stale_after)
        if not state.is_free(liveness):
            raise held_error(self.name, state, liveness)
        self._attempted_token = state.version + 1
        event = acquired(self.name, self._holder)
        try:
            await self._port.append([event], expect={self._stream: state.version})
        except VersionConflict as conflict:
            self._attempted_token = 0
            raise held_error(self.name, LeaseState(), liveness) from conflict
        self.token = self._attempted_token
        LEASE.info("lease %r was acquired with token %d", self.name, self.token)

    async def _release_if_acquired(self) -> None:
        """Release the lease if an interrupted append has acquired it."""
        if not self._attempted_token:
            return
        with suppress(VersionConflict):
            # The store commits the appends of a process in their order. So the answer
            # to this empty append shows that the interrupted append has ended.
            await self._port.append([], expect={self._stream: self._attempted_token})
            if (await self._state()).is_held_by(self._holder):
                self.token = self._attempted_token
                await self._append_release()

    async def _append_release(self) -> None:
        await self.append([released(self.name, self._holder)], None, None)

    def _raise_if_lost(self, conflict: VersionConflict) -> None:
        """Raise `LeaseLost` if a conflict shows that another holder has the lease."""
        lost = lost_error(self.name, self.token, conflict)
        if lost is not None:
            LEASE.warning("%s", lost)
            raise lost from conflict

    async def _state(self) -> LeaseState:
        return LeaseState.of(await self._port.last_of(self._stream))
