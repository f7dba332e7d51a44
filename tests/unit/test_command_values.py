"""What commands give and take: picklable, and refused with a clear error."""

from __future__ import annotations

import copy
import pickle
import sys

import pytest

import eventbraid as eb
from tests.commands import Account, AccountEvent, Deposit, Deposited, Money, PayAll, raw

A = "account-a"
COMMAND = Deposit(account=A, amount=Money(1))


class Group(eb.StatefulCommand[int, AccountEvent]):
    accounts: eb.DeclaredMany[Account]

    def initial(self):
        return 0

    def apply(self, state, recorded, /):
        return state + 1

    def decide(self, state, /):
        return ()


def results() -> dict[str, object]:
    with eb.open("memory:") as store:
        executor = eb.Executor(store)
        store.append([raw(A, Deposited(Money(1)))])
        snapshot = store.read_streams([A, "account-b"])
        return {
            "executed": executor.execute(COMMAND),
            "nothing executed": executor.execute(Group(accounts=[A])),
            "snapshot": snapshot,
            "handle": COMMAND.account,
            "handles": Group(accounts=[A, "account-b"]).accounts,
            "discovered": PayAll(group="group-1", amount=Money(1)).group,
            "write": COMMAND.account.write(Deposited(Money(1))),
            "command": COMMAND,
        }


@pytest.mark.parametrize("name", sorted(results()))
@pytest.mark.parametrize(
    "duplicate",
    [lambda one: pickle.loads(pickle.dumps(one)), copy.copy, copy.deepcopy],
    ids=["pickle", "copy", "deepcopy"],
)
def test_what_commands_give_survives_pickling_and_copying(name, duplicate):
    value = results()[name]
    other = duplicate(value)
    assert type(other) is type(value)
    assert other == value


@pytest.mark.parametrize("position", [0, 1, 2], ids=["first", "middle", "last"])
def test_an_apply_that_returns_none_is_named(position):
    class Forgets(Deposit):
        def apply(self, state, recorded, /):
            return None if recorded.version == position + 1 else state + 1

    with eb.open("memory:") as store:
        store.append([raw(A, Deposited(Money(1))) for _ in range(3)])
        with pytest.raises(eb.errors.InvalidArgument) as caught:
            eb.Executor(store).execute(Forgets(account=A, amount=Money(1)))
    assert "Forgets.apply() returned None for Deposited" in str(caught.value)


def test_an_error_of_apply_itself_is_left_alone():
    class Fails(Deposit):
        def apply(self, state, recorded, /):
            raise LookupError(recorded.version)

    with eb.open("memory:") as store:
        store.append([raw(A, Deposited(Money(1)))])
        with pytest.raises(LookupError):
            eb.Executor(store).execute(Fails(account=A, amount=Money(1)))


def test_none_is_a_state_where_the_command_says_so():
    class Last(eb.StatefulCommand[int | None, AccountEvent]):
        account: eb.Declared[Account]

        def initial(self):
            return 0

        def apply(self, state, recorded, /):
            return None

        def decide(self, state, /):
            eb.require(state is None, "no_event")
            return ()

    with eb.open("memory:") as store:
        store.append([raw(A, Deposited(Money(1)))])
        assert eb.Executor(store).execute(Last(account=A)).read_position == 1


def test_a_limit_that_is_exceeded_is_named_with_both_numbers():
    expect = {f"account-{n}": 0 for n in range(10_001)}
    with eb.open("memory:") as store, pytest.raises(eb.errors.LimitExceeded) as caught:
        store.append([], expect=expect)
    message = str(caught.value)
    assert message.startswith(
        "the expectations of a commit exceed the limit of 10,000: 10,001; expect"
    )
    assert str(pickle.loads(pickle.dumps(caught.value))) == message


def test_a_body_that_is_too_deep_stops_the_command_with_a_typed_error():
    with eb.open("memory:") as store:
        deep = b'{"amount":' + b"[" * 100_000 + b"]" * 100_000 + b"}"
        store.append([(A, eb.event_type(Deposited), deep)])
        with pytest.raises(eb.errors.EventDecodeError):
            eb.Executor(store).execute(COMMAND)


def test_a_lease_is_taken_by_a_program_whose_name_is_not_utf8(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["/bin/w\udce4hrung"])
    with eb.open("memory:") as store, eb.Lease(store, "importer") as lease:
        assert lease.token == 1
