"""Pytest, or what to install; imported before the suites, whose asserts it explains."""

from __future__ import annotations

try:
    import pytest
except ModuleNotFoundError as missing:
    message = (
        "eventbraid.testing runs under pytest, which is not installed; "
        "install it with: pip install 'eventbraid[testing]'"
    )
    raise ModuleNotFoundError(message, name=missing.name) from missing

# Without this a failing assert of the suite would show no values. It must come before
# the suite's modules are imported.
pytest.register_assert_rewrite("eventbraid.testing._contract")
