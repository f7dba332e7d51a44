"""Whatever requests reach gateway and carrier, in whatever order, the books stay sound.

Keys are few and requests many, so that each key comes again, comes after what undid it,
and comes for another action than the first time.
"""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from eventbraid.examples.order_fulfilment.services.carrier import shipping_rule
from eventbraid.examples.order_fulfilment.services.ledger import (
    Request,
    answer,
    settle,
)
from eventbraid.examples.order_fulfilment.services.payment_gateway import payment_rule

KEYS = ("k1", "k2", "k3", "k4", "k5")


def requests(*actions):
    return st.lists(
        st.builds(
            Request,
            key=st.sampled_from(KEYS),
            action=st.sampled_from(actions),
            subject=st.just("payment-1"),
            amount=st.integers(0, 3),
            target=st.sampled_from(("", *KEYS)),
        ),
        max_size=30,
    )


def settled(rule, arriving):
    history, answers = [], []
    for request in arriving:
        settle(rule, request, history)
        answers.append(answer(request, history))
    return history, answers


def undone_at(history, key):
    """When the key was undone first; the end of time if it never was."""
    places = [n for n, entry in enumerate(history) if entry.target == key]
    return min(places, default=len(history))


@given(requests("authorize", "capture", "refund", "void"))
def test_money_is_never_given_back_that_was_not_taken(arriving):
    history, _ = settled(payment_rule(), arriving)
    left = 0
    for entry in history:
        left += {"captured": 1, "refunded": -1}.get(entry.effect, 0) * entry.amount
        assert left >= 0


@given(requests("authorize", "capture", "refund", "void"))
def test_a_key_has_one_entry_and_always_the_same_answer(arriving):
    history, answers = settled(payment_rule(), arriving)
    assert max(Counter(e.key for e in history).values(), default=1) == 1
    given_to = {}
    for request, entry in zip(arriving, answers, strict=True):
        assert given_to.setdefault(request.key, entry) == entry


@given(requests("authorize", "capture", "refund", "void"))
def test_nothing_is_taken_under_a_key_that_was_undone_before(arriving):
    history, _ = settled(payment_rule(), arriving)
    for place, entry in enumerate(history):
        if entry.effect in {"authorized", "captured"}:
            assert undone_at(history, entry.key) >= place


@given(requests("create", "schedule", "dispatch", "cancel"))
def test_a_shipment_is_cancelled_or_on_its_way_and_never_both(arriving):
    history, _ = settled(shipping_rule(), arriving)
    effects = {entry.effect for entry in history}
    assert not {"cancelled", "dispatched"} <= effects
    for place, entry in enumerate(history):
        if entry.effect in {"created", "scheduled", "dispatched"}:
            before = {earlier.effect for earlier in history[:place]}
            assert "cancelled" not in before
            assert undone_at(history, entry.key) >= place
