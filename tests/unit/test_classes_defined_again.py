"""A notebook cell that defines classes again: errors name the reason and the remedy."""

from __future__ import annotations

import sys
import types
from typing import TYPE_CHECKING, Any

import pytest

import eventbraid as eb

if TYPE_CHECKING:
    from collections.abc import Iterator

VALUES = """
import eventbraid as eb

@eb.value_object
class Price:
    cents: int

@eb.value_object
class Gift:
    giver: str
"""

EVENTS = """
@eb.event("again.sold")
class Sold:
    price: Price

@eb.event("again.settled")
class Settled:
    by: Price | Gift
"""

COMMAND = """
class Shop(eb.Stream[Sold | Settled], category="shop"): ...

class Sell(eb.StatefulCommand[int, Sold | Settled]):
    shop: eb.Declared[Shop]

    def initial(self):
        return 0

    def apply(self, state, recorded, /):
        assert type(recorded.event) in (Sold, Settled)
        return state + 1

    def decide(self, state, /):
        yield self.shop.write(Sold(Price(state)))
        yield self.shop.write(Settled(Price(1)))
"""


@pytest.fixture
def notebook() -> Iterator[types.ModuleType]:
    module = types.ModuleType("notebook_of_this_test")
    sys.modules[module.__name__] = module
    _run(module, VALUES, EVENTS, COMMAND)
    yield module
    del sys.modules[module.__name__]


def _run(module: types.ModuleType, *cells: str) -> None:
    for cell in cells:
        # Without this module's own `from __future__ import annotations`.
        code = compile(cell, "a cell", "exec", dont_inherit=True)
        exec(code, module.__dict__)


def test_a_value_of_a_class_before_it_was_defined_again_is_named_as_such(
    notebook: Any,
) -> None:
    _run(notebook, VALUES)
    for make in (notebook.Sold, notebook.Settled):
        with pytest.raises(eb.InvalidValue, match=r"class Price was defined again"):
            make(notebook.Price(1))


def test_a_command_whose_events_were_defined_again_says_what_to_define(
    notebook: Any,
) -> None:
    with eb.open("memory:") as store:
        executor = eb.Executor(store)
        old = notebook.Sell(shop="shop-1")
        for _ in range(10):
            executor.execute(old)
        _run(notebook, VALUES, EVENTS)
        with pytest.raises(
            eb.errors.EventDecodeError, match="Sold was defined again after"
        ):
            executor.execute(old)
        _run(notebook, COMMAND)
        sold, settled = executor.execute(notebook.Sell(shop="shop-1")).events
        assert (type(sold), type(settled)) == (notebook.Sold, notebook.Settled)
        assert type(settled.by) is notebook.Price
