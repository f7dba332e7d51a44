"""The search for an order of a stream's operations finds one if and only if there is one.

Its result is compared with a trial of every order, for a few operations at random times.
"""

from __future__ import annotations

from itertools import permutations

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.histories.check_streams import Step, search

EMPTY = (0, 0, "")


@st.composite
def some_steps(draw):
    steps = []
    for number in range(draw(st.integers(1, 5))):
        invoked = draw(st.integers(0, 8))
        lasted = draw(st.one_of(st.none(), st.integers(0, 6)))
        returned = None if lasted is None else invoked + lasted
        version = draw(st.one_of(st.none(), st.integers(0, 4)))
        values = (f"v{number}",) * draw(st.integers(0, 2))
        expected = draw(st.sampled_from(["any", "any", "exists", "no_stream", 0, 1, 2]))
        failed = not values and draw(st.booleans()) and expected != "any"
        step = Step("", invoked, returned, values, expected, failed, version)
        steps.append(step)
    return steps


def has_an_order(steps):
    """Whether an order explains every result, with any subset of the others."""
    certain = [number for number, one in enumerate(steps) if one.returned is not None]
    open_ = [number for number, one in enumerate(steps) if one.returned is None]
    for size in range(len(open_) + 1):
        for order in permutations(range(len(steps)), len(certain) + size):
            if set(certain) <= set(order) and explains([steps[n] for n in order]):
                return True
    return False


def explains(order):
    state = EMPTY
    for place, step in enumerate(order):
        if any(
            later.returned is not None and later.returned < step.invoked
            for later in order[place + 1 :]
        ):
            return False
        state = step.applied(state)
        if state is None:
            return False
    return True


@settings(max_examples=400)
@given(some_steps())
def test_the_search_agrees_with_trying_every_order(steps):
    assert (search(steps, EMPTY) is None) == has_an_order(steps)
