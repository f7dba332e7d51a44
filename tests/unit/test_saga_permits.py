"""The states of a permit: held, lent while its saga waits for another, held again.

The hazard: a permit that is returned twice lets one saga too many in for good; one that
is never returned keeps one out for good.
"""

from __future__ import annotations

import anyio
import pytest

from eventbraid.saga.running._permits import Permits

pytestmark = pytest.mark.anyio


@pytest.fixture
def permits():
    return Permits(1)


def free(permits: Permits) -> int:
    """How many permits can be acquired at once; all of them are released again."""
    acquired = 0
    while permits.acquire_nowait():
        acquired += 1
    for _ in range(acquired):
        permits.release()
    return acquired


async def test_the_end_of_the_block_returns_a_held_permit(permits):
    with permits.permit() as permit:
        assert not permit.is_held
        await permit.acquire()
        assert permit.is_held
        assert free(permits) == 0
    assert not permit.is_held
    assert free(permits) == 1


async def test_an_exception_returns_the_permit_too(permits):
    with pytest.raises(ZeroDivisionError), permits.permit() as permit:
        await permit.acquire()
        raise ZeroDivisionError
    assert free(permits) == 1


async def test_a_block_that_acquires_nothing_returns_nothing(permits):
    with permits.permit():
        pass
    assert free(permits) == 1


async def test_a_lent_permit_is_free_for_another_saga(permits):
    with permits.permit() as permit:
        await permit.acquire()
        permit.lend()
        assert not permit.is_held
        assert free(permits) == 1
        permit.take_back()
        assert permit.is_held
        assert free(permits) == 0
    assert free(permits) == 1


async def test_a_permit_is_taken_back_at_once_and_the_next_request_waits_longer(
    permits,
):
    with permits.permit() as other:
        with permits.permit() as permit:
            await permit.acquire()
            permit.lend()
            await other.acquire()
            permit.take_back()
            assert permit.is_held
            assert other.is_held
        # One of two is returned; only one may be out.
        assert free(permits) == 0
    assert free(permits) == 1


async def test_a_permit_that_was_returned_while_it_was_lent_is_not_taken_back(permits):
    with permits.permit() as permit:
        await permit.acquire()
        permit.lend()
    # A task that the saga's function has left behind ends its wait now.
    permit.take_back()
    assert not permit.is_held
    assert free(permits) == 1


async def test_a_saga_that_continues_while_its_permit_is_lent_acquires_it_again(
    permits,
):
    with permits.permit() as permit:
        await permit.acquire()
        permit.lend()
        await permit.acquire()
        permit.take_back()
        assert free(permits) == 0
    assert free(permits) == 1


async def test_a_permit_that_is_lent_twice_is_returned_once(permits):
    with permits.permit() as permit:
        await permit.acquire()
        permit.lend()
        permit.lend()
        permit.take_back()
        permit.take_back()
        assert free(permits) == 0
    assert free(permits) == 1


async def test_a_permit_that_is_passed_on_is_returned_by_its_successor(permits):
    with permits.permit() as permit:
        await permit.acquire()
        successor = permit.pass_on()
        assert not permit.is_held
    assert free(permits) == 0
    with successor:
        assert successor.is_held
    assert free(permits) == 1


async def test_a_cancelled_request_that_was_granted_loses_no_permit(permits):
    with permits.permit() as holder:
        await holder.acquire()
        with permits.permit() as permit:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(permit.acquire)
                await anyio.wait_all_tasks_blocked()
                holder.lend()
                # Granted, and cancelled before its task has run.
                tasks.cancel_scope.cancel()
        assert not permit.is_held
        assert free(permits) == 1
