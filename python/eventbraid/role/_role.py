"""Roles, for threads and for event loops."""

from __future__ import annotations

import os
import time
from contextlib import suppress
from datetime import timedelta
from types import MappingProxyType
from typing import TYPE_CHECKING

import anyio

from eventbraid._logging import ROLE
from eventbraid.errors import (
    EventbraidError,
    InvalidArgument,
    RoleBusy,
    RoleLost,
    VersionConflict,
)
from eventbraid.role._owner import leave, owner_of
from eventbraid.role._standing import (
    Standing,
    Witness,
    busy,
    loss,
    releasing,
    stale_seconds,
    stream_of,
    taking,
)
from eventbraid.store._duration import duration_seconds
from eventbraid.store._heartbeat import LoopHeartbeat
from eventbraid.store._presence import appear, sightings, sightings_async

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from types import TracebackType
    from typing import Self

    from typing_extensions import Buffer

    from eventbraid.store import (
        Appended,
        AsyncEventStore,
        EventStore,
        Expectation,
        NewEvent,
    )

_STALE_AFTER = timedelta(seconds=10)
_LOOK_SECONDS = 0.05
_NO_TIME = timedelta(0)


class _Tenure:
    """What both faces keep of a role: its name, its owner, and the token."""

    def __init__(
        self, store: object, role: str, stale_after: timedelta, wait: timedelta | None
    ) -> None:
        self._stream = stream_of(role)
        self._role = role
        self._store_of_it = store
        self._stale_after = stale_seconds(duration_seconds("stale_after", stale_after))
        self._wait = None if wait is None else duration_seconds("wait", wait)
        self._token = 0
        self._tried = 0
        self._process = os.getpid()
        self._opening = ""
        self._owner = ""

    @property
    def name(self) -> str:
        """The role's name."""
        return self._role

    @property
    def token(self) -> int:
        """The fencing token: the version of the role's stream when it was taken."""
        return self._token

    @property
    def fence(self) -> Mapping[str, int]:
        """What every append made under the role demands; give it as ``expect``.

        Raises:
            InvalidArgument: The role is that of the process that forked this one.
        """
        if self._process != os.getpid():
            reason = "it was taken by the process that forked this one; take it here"
            raise InvalidArgument("role", self._role, reason)
        return MappingProxyType({self._stream: self._token})

    def _appear(self, *, in_loop: bool = False) -> None:
        if self._owner:
            raise InvalidArgument(
                "role", self._role, "it is taken already; make another"
            )
        self._process = os.getpid()
        self._opening = appear(self._store_of_it)
        heartbeat = LoopHeartbeat(self._store_of_it) if in_loop else None
        self._owner = owner_of(self._opening, heartbeat)

    def _leave(self) -> None:
        leave(self._owner)

    def _witness(self, seen: Mapping[str, float]) -> Witness:
        return Witness(self._opening, seen, self._stale_after)

    def _demands(
        self, expect: Mapping[str, Expectation] | None
    ) -> dict[str, Expectation]:
        return {**(expect or {}), **self.fence}

    def _raise_loss(self, error: BaseException | None) -> None:
        """Say it plainly if an error came of the role being lost."""
        if isinstance(error, VersionConflict):
            lost = loss(self._role, self._token, error)
            if lost is not None:
                ROLE.warning("%s", lost)
                raise lost from error

    def _is_over(self, began: float) -> bool:
        return self._wait is not None and time.monotonic() - began >= self._wait


class Role(_Tenure):
    """What one at a time does of all who share a store; a context manager.

    Entering it takes the role. Appends that carry its `fence`, or are made by `append`,
    are refused by the store as soon as somebody else has taken the role. Leaving it
    lets the role go, also if the block raised. If its process dies or closes the store,
    the role is free at once; if the process is stopped, after ``stale_after``. Who
    waits for a role looks every 50 ms whether it is free. A forked child has no part in
    its parent's roles.

    The heartbeat comes from a thread of the store: it shows that the process runs, not
    that the thread that holds the role makes progress. An `AsyncRole` is as alive as
    its event loop. Other processes see the slowest such event loop as the whole
    session, so give a `Role` a session of its own if it has to outlive a hanging event
    loop of its process.

    Args:
        store: The store, open.
        role: The role's name, ``"projection-orders"``; its stream is ``$role-`` and
            the name.
        stale_after: From how much silence on an owner counts as stopped, at least 1 s.
        wait: How long to wait for a role that somebody has; None: without end.

    Raises:
        RoleBusy: On entering: somebody has it.
        RoleLost: On leaving, and by `append`: somebody else has taken it.

    Example:
        >>> import eventbraid as eb
        >>> with eb.open("memory:") as store:
        ...     with eb.Role(store, "projection-orders") as role:
        ...         done = store.append([("order-1", "seen", b"")], expect=role.fence)
        ...         print(done.versions["order-1"], role.token)
        1 1
    """

    def __init__(
        self,
        store: EventStore,
        role: str,
        /,
        *,
        stale_after: timedelta = _STALE_AFTER,
        wait: timedelta | None = _NO_TIME,
    ) -> None:
        """Name the role; nothing happens before it is entered."""
        super().__init__(store, role, stale_after, wait)
        self._store = store

    def __enter__(self) -> Self:
        """Take the role."""
        self._appear()
        began = time.monotonic()
        try:
            while True:
                try:
                    self._take()
                except RoleBusy:
                    if self._is_over(began):
                        raise
                else:
                    return self
                time.sleep(_LOOK_SECONDS)
        except BaseException:
            try:
                self._undo()
            finally:
                self._leave()
            raise

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Let the role go; a conflict that came of its loss is told as that."""
        try:
            self._raise_loss(error)
            self._release()
        except EventbraidError as failure:
            if error is None or isinstance(failure, RoleLost):
                raise
            error.add_note(f"the role {self._role!r} was not let go: {failure}")
        finally:
            self._leave()

    def append(
        self,
        events: Iterable[NewEvent | tuple[str, str, Buffer]],
        *,
        expect: Mapping[str, Expectation] | None = None,
        idempotency_key: str | None = None,
    ) -> Appended:
        """Append under the role.

        Args:
            events: As for `EventStore.append`.
            expect: What is demanded besides the fence.
            idempotency_key: As for `EventStore.append`.

        Raises:
            RoleLost: Somebody else has taken the role; nothing was written.
            EventbraidError: As `EventStore.append` does.

        Example:
            >>> import eventbraid as eb
            >>> with eb.open("memory:") as store, eb.Role(store, "importer") as role:
            ...     role.append([("order-1", "imported", b"")]).last_position
            2
        """
        try:
            return self._store.append(
                events, expect=self._demands(expect), idempotency_key=idempotency_key
            )
        except VersionConflict as conflict:
            self._raise_loss(conflict)
            raise

    def _take(self) -> None:
        standing = self._standing()
        witness = self._witness(sightings(self._store))
        if not standing.is_free(witness):
            raise busy(self._role, standing, witness)
        self._tried = standing.version + 1
        event = taking(self._role, self._owner)
        try:
            self._store.append([event], expect={self._stream: standing.version})
        except VersionConflict as conflict:
            self._tried = 0
            raise busy(self._role, Standing(), witness) from conflict
        self._token = self._tried
        ROLE.info("lease %r was acquired with token %d", self._role, self._token)

    def _release(self) -> None:
        self.append([releasing(self._role, self._owner)])

    def _undo(self) -> None:
        """Let the role go if it was taken by an append whose answer was lost."""
        if not self._tried:
            return
        with suppress(VersionConflict):
            # What is under way is through when this is answered.
            self._store.append([], expect={self._stream: self._tried})
            if self._standing().is_of(self._owner):
                self._token = self._tried
                self._release()

    def _standing(self) -> Standing:
        last = self._store.read_stream(self._stream, backward=True, limit=1)
        return Standing.of(next(iter(last), None))


class AsyncRole(_Tenure):
    """What one at a time does of all who share a store, in an event loop.

    What `Role` says holds here too, and the heartbeat comes from the event loop in
    which the role is taken: if the loop hangs for ``stale_after``, the role is free,
    and the store refuses what is appended under it afterwards.

    Args:
        store: The store, open.
        role: The role's name.
        stale_after: As for `Role`.
        wait: As for `Role`.

    Raises:
        RoleBusy: On entering: somebody has it.
        RoleLost: On leaving, and by `append`: somebody else has taken it.

    Example:
        >>> import asyncio
        >>> import eventbraid as eb
        >>> async def main() -> None:
        ...     async with eb.open_async("memory:") as store:
        ...         async with eb.AsyncRole(store, "projection-orders") as role:
        ...             await store.append([("o-1", "seen", b"")], expect=role.fence)
        ...             try:
        ...                 async with eb.AsyncRole(store, "projection-orders"):
        ...                     pass
        ...             except eb.RoleBusy as error:
        ...                 print(error.role)
        >>> asyncio.run(main())
        projection-orders
    """

    def __init__(
        self,
        store: AsyncEventStore,
        role: str,
        /,
        *,
        stale_after: timedelta = _STALE_AFTER,
        wait: timedelta | None = _NO_TIME,
    ) -> None:
        """Name the role; nothing happens before it is entered."""
        super().__init__(store, role, stale_after, wait)
        self._store = store

    async def __aenter__(self) -> Self:
        """Take the role."""
        self._appear(in_loop=True)
        began = time.monotonic()
        try:
            while True:
                try:
                    await self._take()
                except RoleBusy:
                    if self._is_over(began):
                        raise
                else:
                    return self
                await anyio.sleep(_LOOK_SECONDS)
        except BaseException:
            try:
                with anyio.CancelScope(shield=True):
                    await self._undo()
            finally:
                self._leave()
            raise

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Let the role go; a conflict that came of its loss is told as that."""
        try:
            self._raise_loss(error)
            with anyio.CancelScope(shield=True):
                await self._release()
        except EventbraidError as failure:
            if error is None or isinstance(failure, RoleLost):
                raise
            error.add_note(f"the role {self._role!r} was not let go: {failure}")
        finally:
            self._leave()

    async def append(
        self,
        events: Iterable[NewEvent | tuple[str, str, Buffer]],
        *,
        expect: Mapping[str, Expectation] | None = None,
        idempotency_key: str | None = None,
    ) -> Appended:
        """Append under the role.

        Args:
            events: As for `EventStore.append`.
            expect: What is demanded besides the fence.
            idempotency_key: As for `EventStore.append`.

        Raises:
            RoleLost: Somebody else has taken the role; nothing was written.
            EventbraidError: As `EventStore.append` does.
        """
        try:
            return await self._store.append(
                events, expect=self._demands(expect), idempotency_key=idempotency_key
            )
        except VersionConflict as conflict:
            self._raise_loss(conflict)
            raise

    async def _take(self) -> None:
        standing = await self._standing()
        witness = self._witness(await sightings_async(self._store))
        if not standing.is_free(witness):
            raise busy(self._role, standing, witness)
        self._tried = standing.version + 1
        event = taking(self._role, self._owner)
        try:
            await self._store.append([event], expect={self._stream: standing.version})
        except VersionConflict as conflict:
            self._tried = 0
            raise busy(self._role, Standing(), witness) from conflict
        self._token = self._tried
        ROLE.info("lease %r was acquired with token %d", self._role, self._token)

    async def _release(self) -> None:
        await self.append([releasing(self._role, self._owner)])

    async def _undo(self) -> None:
        """Let the role go if it was taken by an append whose answer was lost."""
        if not self._tried:
            return
        with suppress(VersionConflict):
            # What is under way is through when this is answered.
            await self._store.append([], expect={self._stream: self._tried})
            if (await self._standing()).is_of(self._owner):
                self._token = self._tried
                await self._release()

    async def _standing(self) -> Standing:
        last = self._store.read_stream(self._stream, backward=True, limit=1)
        found = [recorded async for recorded in last]
        return Standing.of(found[0] if found else None)
