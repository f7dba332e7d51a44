"""The whole contract in one class."""

from __future__ import annotations

from eventbraid.testing._contract.appending import AppendingContract
from eventbraid.testing._contract.categories import CategoriesContract
from eventbraid.testing._contract.coordinating import CoordinatingContract
from eventbraid.testing._contract.limits import LimitsContract
from eventbraid.testing._contract.numbers import NumbersContract
from eventbraid.testing._contract.races import RacesContract
from eventbraid.testing._contract.reading import ReadingContract
from eventbraid.testing._contract.reopening import ReopeningContract
from eventbraid.testing._contract.sharing import SharingContract
from eventbraid.testing._contract.subscribing import SubscribingContract


class StoreContract(
    NumbersContract,
    AppendingContract,
    CategoriesContract,
    RacesContract,
    ReadingContract,
    SubscribingContract,
    ReopeningContract,
    SharingContract,
    CoordinatingContract,
    LimitsContract,
):
    """Everything that a store promises, whatever it keeps its events in.

    Subclass it in a file of tests, and give it a fixture named ``backend`` that answers
    a `StoreBackend` at a fresh place. Each test is named after the rule that it proves
    and says it in its docstring. The tests run on asyncio, and on trio if that is
    installed; a fixture named ``anyio_backend`` in your class chooses otherwise. What
    your backend does not claim, by `StoreBackend.durable` and `StoreBackend.shared`, or
    lacks by choice, such as reservations, is skipped with the reason.

    Example:
        In a file of tests::

            import pytest
            from eventbraid.testing import StoreContract


            class TestMyStore(StoreContract):
                @pytest.fixture
                def backend(self, tmp_path):
                    return MyBackend(tmp_path / "store")

        The rules that it proves can be listed:

        >>> from eventbraid.testing import StoreContract
        >>> rules = {name[10:12] for name in dir(StoreContract) if "_rule_" in name}
        >>> min(rules), max(rules), len(rules)
        ('01', '30', 22)
    """
