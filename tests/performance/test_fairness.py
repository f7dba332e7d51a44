"""Who writes next is drawn up in order: no process that shares a store is shut out.

Shares, not times: a busy machine makes all of them slow alike.
"""

from __future__ import annotations

import pytest

from benches.processes import IN_FLIGHT, many_in_flight, one_at_a_time, work_together

pytestmark = pytest.mark.timeout(120)
SECONDS = 2.0


def commits(path, works):
    return [len(one.waits) for one in work_together(works, path, SECONDS)]


def test_equal_processes_get_equal_shares(tmp_path):
    done = commits(tmp_path / "store", [one_at_a_time] * 4)
    assert min(done) >= sum(done) / 8, done


def test_a_process_with_many_appends_in_flight_shuts_out_no_other(tmp_path):
    crowd, *single = commits(tmp_path / "store", [many_in_flight, *[one_at_a_time] * 3])
    assert min(single) >= sum(single) / 6, single
    # All that are in flight may go in one turn: so many turns the crowd has had at least.
    assert min(single) >= crowd / IN_FLIGHT, (crowd, single)
