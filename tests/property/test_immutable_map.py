"""The order example's map: equal to a dict after any changes, and never changed itself.

The hazards: a later map that changes an earlier one through a layer that both share, and
layers whose number grows with each change, so that each look-up gets slower.
"""

from __future__ import annotations

import copy
import math
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from eventbraid.examples.order_fulfilment.immutable_map import ImmutableMap

CHANGES = st.lists(st.tuples(st.integers(0, 40), st.integers(0, 3)), max_size=120)


def maps_after(changes):
    """Return the map after each change, the empty one first."""
    maps = [ImmutableMap()]
    for key, value in changes:
        maps.append(maps[-1].with_item(key, value))
    return maps


@given(CHANGES)
def test_every_version_of_a_map_equals_a_dict(changes):
    maps = maps_after(changes)
    for count, version in enumerate(maps):
        expected = dict(changes[:count])
        assert version.as_dict() == expected
        assert version == ImmutableMap(expected.items())
        assert hash(version) == hash(ImmutableMap(expected.items()))
        for key in range(41):
            assert version.get(key, None) == expected.get(key)
            assert (key in version) == (key in expected)


@given(CHANGES, CHANGES, st.data())
def test_two_histories_of_one_map_are_independent(changes, others, data):
    maps = maps_after(changes)
    start = data.draw(st.integers(0, len(changes)))
    branch = maps[start]
    for key, value in others:
        branch = branch.with_item(key, value)
    assert branch.as_dict() == dict([*changes[:start], *others])
    assert maps[-1].as_dict() == dict(changes)


@given(CHANGES)
def test_the_number_of_layers_is_logarithmic(changes):
    for version in maps_after(changes):
        sizes = [len(layer) for layer in version._layers]
        assert all(b >= 2 * s for b, s in pairwise(sizes))
        assert len(sizes) <= math.log2(max(sizes, default=0) + 1) + 1


def test_entries_are_copied_a_logarithmic_number_of_times():
    count, copied = 4_096, 0
    version = ImmutableMap()
    for number in range(count):
        before = version._layers
        version = version.with_item(number, 1)
        if len(version._layers) <= len(before):
            copied += len(version._layers[-1])
    assert version.as_dict() == dict.fromkeys(range(count), 1)
    assert copied <= count * 2 * math.log2(count)


def test_a_copy_is_the_map_itself():
    version = ImmutableMap([("a", 1)])
    assert copy.deepcopy(version) is version
    assert version != ImmutableMap([("a", 2)])
    assert version != {"a": 1}
    assert repr(version) == "ImmutableMap([('a', 1)])"
