"""The reservation that the commands of a process share, and the streams that need one."""

from __future__ import annotations

from eventbraid.command._shared_reservation import (
    OTHERS_LIMIT,
    OTHERS_SECONDS,
    RESERVE_SECONDS,
    SharedReservations,
    reserve_delay,
)


def test_a_stream_counts_as_written_by_others_for_a_time():
    reservations = SharedReservations()
    reservations.note_others(["a"], now=10.0)
    reservations.note_others(["b"], now=10.5)
    written = reservations.written_by_others
    assert written(["a", "b", "c"], now=10.9) == ["a", "b"]
    assert written(["a", "b", "c"], now=10.2 + OTHERS_SECONDS) == ["b"]
    assert written(["a", "b", "c"], now=11.0 + OTHERS_SECONDS) == []


def test_the_noted_streams_are_bounded():
    reservations = SharedReservations()
    for number in range(20 * OTHERS_LIMIT):
        reservations.note_others([f"s-{number}"], now=number / 100)
    assert len(reservations._others) <= 2 * OTHERS_LIMIT
    last = 20 * OTHERS_LIMIT - 1
    assert reservations.written_by_others([f"s-{last}"], now=last / 100)


def test_a_command_that_has_waited_tries_to_reserve_before_one_that_has_not():
    earliest_of_new = reserve_delay(0.0, chance=0.0)
    latest_of_old = reserve_delay(1.0, chance=1.0)
    assert 0 < latest_of_old < earliest_of_new
    assert reserve_delay(0.0, chance=1.0) <= RESERVE_SECONDS
