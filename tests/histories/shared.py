"""Whether the engine that is installed lets processes share a store."""

from __future__ import annotations

import inspect

import pytest

import eventbraid as eb

ENGINE = "eventbraid:open"

IS_SHARED = "mode" in inspect.signature(eb.open).parameters

needs_sharing = pytest.mark.skipif(
    not IS_SHARED, reason="this build of the engine is for one process at a time"
)
