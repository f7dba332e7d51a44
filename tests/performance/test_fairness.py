"""Tickets order the writers: no process that shares a store is shut out.

Shares of the commits are compared, not times, because a busy machine slows all processes
alike. The scheduler of the machine may still give one of them less of a processor for a
second or two. So a run that is not fair is repeated: a store that prefers a process does so
in every run.
"""

from __future__ import annotations

import pytest

from benches.processes import IN_FLIGHT, many_in_flight, one_at_a_time, work_together

pytestmark = pytest.mark.timeout(300)
SECONDS = 2.0
RUNS = 4


def commits(path, works):
    return [len(one.waits) for one in work_together(works, path, SECONDS)]


def unfair_runs(tmp_path, works, is_fair):
    """Run until a run is fair, at most `RUNS` times; the commits of the unfair runs."""
    unfair = []
    for run in range(RUNS):
        done = commits(tmp_path / f"store-{run}", works)
        if is_fair(done):
            break
        unfair.append(done)
    return unfair


def test_equal_processes_get_equal_shares(tmp_path):
    def is_fair(done):
        return min(done) >= sum(done) / 8

    unfair = unfair_runs(tmp_path, [one_at_a_time] * 4, is_fair)
    assert len(unfair) < RUNS, unfair


def test_a_process_with_many_appends_in_flight_shuts_out_no_other(tmp_path):
    def is_fair(done):
        crowd, *single = done
        # All appends that are in flight may be committed in one turn, so this is the
        # minimum of the turns that the crowd had.
        return min(single) >= max(sum(single) / 6, crowd / IN_FLIGHT)

    works = [many_in_flight, *[one_at_a_time] * 3]
    unfair = unfair_runs(tmp_path, works, is_fair)
    assert len(unfair) < RUNS, unfair
