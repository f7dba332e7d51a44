"""Rule 8 under true races: every task has read the same state when all of them append.

The hazard: two writers that both believe that they were first; or a decision that
rests on a stream that was only read, and changed meanwhile (write skew).
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from eventbraid.testing._contract.asking import StartingLine, listed, race, versions
from eventbraid.testing._contract.case import ContractCase

if TYPE_CHECKING:
    import eventbraid as eb
    from eventbraid.testing._contract.backend import StoreUnderTest

_WRITERS = 6
_ROUNDS = 8


class RacesContract(ContractCase):
    """Rules 8 and 10, when many ask at once."""

    async def test_rule_08_exactly_one_of_many_writers_wins_a_version(
        self, store: StoreUnderTest
    ) -> None:
        """All expectations are judged against one state: one writer wins each."""
        for round_ in range(_ROUNDS):
            line = StartingLine(_WRITERS)

            async def attempt(line: StartingLine = line) -> None:
                version = await store.version("a")
                await line.wait()
                await store.append([("a", "x", b"")], expect={"a": version})

            assert (await race(*[attempt] * _WRITERS)).count(True) == 1
            assert await store.version("a") == round_ + 1
        assert await versions(store.read_stream("a")) == list(range(1, _ROUNDS + 1))

    async def test_rule_08_two_writers_never_both_rest_on_each_others_stream(
        self, store: StoreUnderTest
    ) -> None:
        """A checks B and writes A while B checks A and writes B: never both."""
        for round_ in range(_ROUNDS):
            one, two = f"a-{round_}", f"b-{round_}"

            async def first(one: str = one, two: str = two) -> None:
                await store.append([(one, "x", b"")], expect={two: 0})

            async def second(one: str = one, two: str = two) -> None:
                await store.append([(two, "x", b"")], expect={one: 0})

            assert (await race(first, second)).count(True) == 1

    async def test_rule_08_a_ring_of_checks_lets_nobody_rest_on_what_changed(
        self, store: StoreUnderTest
    ) -> None:
        """Of writers in a ring, each checking the next, no two neighbours both win."""
        for round_ in range(_ROUNDS):
            ring = [f"s-{round_}-{number}" for number in range(3)]

            pairs = list(zip(ring, ring[1:] + ring[:1], strict=True))

            async def write(mine: str, checked: str) -> None:
                await store.append([(mine, "x", b"")], expect={checked: 0})

            won = await race(*(partial(write, *pair) for pair in pairs))
            assert 1 <= won.count(True) <= len(ring) - 1
            order = [r.stream async for r in store.read_all(prefix=f"s-{round_}-")]
            for mine, checked in pairs:
                if mine in order and checked in order:
                    assert order.index(mine) < order.index(checked)

    async def test_rule_10_one_key_is_done_once_however_many_ask(
        self, store: StoreUnderTest
    ) -> None:
        """Of many appends with one key at once, one writes and all answer alike."""
        for round_ in range(_ROUNDS):
            answers: list[eb.Appended] = []

            async def attempt(
                key: str = f"k-{round_}", answers: list[eb.Appended] = answers
            ) -> None:
                done = await store.append([("a", "x", b"")], idempotency_key=key)
                answers.append(done)

            await race(*[attempt] * _WRITERS)
            assert [done.replayed for done in answers].count(False) == 1
            assert len({done.first_position for done in answers}) == 1
        assert len(await listed(store.read_all())) == _ROUNDS
