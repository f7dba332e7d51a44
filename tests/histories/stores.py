"""How the engine is named as a store that processes share."""

from __future__ import annotations

ENGINE = "eventbraid:open"
ON_LOOP = "tests.histories.event_loop_store:StoreOnLoop"
