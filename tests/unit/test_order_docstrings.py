"""The examples in the order application's docstrings are true."""

from __future__ import annotations

import doctest
import importlib
import pkgutil

import pytest

from eventbraid.examples import order_fulfilment

MODULES = [
    found.name
    for found in pkgutil.walk_packages(
        order_fulfilment.__path__, f"{order_fulfilment.__name__}."
    )
]


@pytest.mark.parametrize("name", MODULES)
def test_examples_of_the_module_hold(name):
    module = importlib.import_module(name)
    names = {**vars(module)}
    result = doctest.testmod(module, extraglobs=names, optionflags=doctest.ELLIPSIS)
    assert result.failed == 0
    assert module.__doc__
