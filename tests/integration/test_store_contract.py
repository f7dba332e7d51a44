"""The public contract suite over every backend that exists.

The hazard: a promise that one backend keeps and another does not, which a program finds
when it moves from one to the other.
"""

from __future__ import annotations

import pytest

from eventbraid.testing import StoreContract
from tests.contract.backends import NAMES, backends
from tests.contract.loops import UVLOOP


class TestStoreContract(StoreContract):
    @pytest.fixture(params=NAMES)
    def backend(self, request, tmp_path):
        return backends(tmp_path)[request.param]


class TestStoreContractOnUvloop(StoreContract):
    """The face that an event loop is part of, on the third one."""

    @pytest.fixture
    def backend(self, tmp_path):
        return backends(tmp_path)["disk-async"]

    @pytest.fixture(params=[UVLOOP])
    def anyio_backend(self, request):
        return request.param
