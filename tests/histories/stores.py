"""The names of the engine's stores in a workload."""

from __future__ import annotations

ENGINE = "eventbraid:open"
ON_LOOP = "tests.histories.event_loop_store:StoreOnLoop"
