"""Import pytest for the contract suites, or report how to install it.

The package of the suites imports this module first.
"""

from __future__ import annotations

from pathlib import Path

try:
    import pytest
except ModuleNotFoundError as missing:
    message = (
        "eventbraid.testing runs under pytest, which is not installed; "
        "install it with: pip install 'eventbraid[testing]'"
    )
    raise ModuleNotFoundError(message, name=missing.name) from missing

# Without this, a failing assert of the suite would show no values. It must come before
# the import of the modules; the package itself has no asserts.
_SUITES = Path(__file__).with_name("_contract").glob("[!_]*.py")
pytest.register_assert_rewrite(
    *(f"eventbraid.testing._contract.{suite.stem}" for suite in _SUITES)
)
