"""The examples in the example applications' docstrings are true."""

from __future__ import annotations

import doctest
import importlib
import pkgutil

import pytest

from eventbraid import examples

MODULES = [
    found.name
    for found in pkgutil.walk_packages(examples.__path__, f"{examples.__name__}.")
]


@pytest.mark.parametrize("name", MODULES)
def test_examples_of_the_module_hold(name):
    module = importlib.import_module(name)
    names = {**vars(module)}
    result = doctest.testmod(module, extraglobs=names, optionflags=doctest.ELLIPSIS)
    assert result.failed == 0
    assert module.__doc__
