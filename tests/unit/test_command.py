"""What a command's class and its instances refuse before anything is read."""

from __future__ import annotations

import copy
import dataclasses
import pickle
import types
from typing import Any, Generic, TypeVar

import pytest

import eventbraid as eb
from tests.commands import (
    Account,
    AccountEvent,
    Deposit,
    Deposited,
    Group,
    Joined,
    Limit,
    Money,
    Transfer,
    Withdrawn,
)

A, B = "account-a", "account-b"
TRANSFER = Transfer(source=A, target=B, limit="limit-eu", amount=Money(1))
E = TypeVar("E")


class AccountId(eb.Id, prefix="account"): ...


class JoinAll(eb.StatefulCommand[None, Joined]):
    groups: eb.DeclaredMany[Group]

    def initial(self) -> None: ...
    def apply(self, state, recorded, /): ...
    def decide(self, state, /):
        for group in self.groups:
            yield group.write(Joined(A))


# --- making a class ------------------------------------------------------------------


def methods_of(methods):
    return lambda space: space.update(methods)


@pytest.mark.parametrize("missing", ["initial", "apply", "decide"])
def test_a_command_without_a_method_is_refused_when_its_class_is_made(missing):
    methods = {
        name: lambda *_: None for name in {"initial", "apply", "decide"} - {missing}
    }
    with pytest.raises(TypeError, match=rf"Lacking lacks {missing}\(\).*abstract=True"):
        types.new_class(
            "Lacking", (eb.StatefulCommand[None, Joined],), {}, methods_of(methods)
        )


def test_an_abstract_command_leaves_methods_to_its_heirs():
    class OnAccount(eb.StatefulCommand[int, AccountEvent], abstract=True):
        account: eb.Declared[Account]

        def initial(self):
            return 0

        def apply(self, state, recorded, /):
            return state + 1

    class Close(OnAccount):
        reason: str

        def decide(self, state, /):
            yield self.account.write(Withdrawn(Money(state)))

    assert list(Close(account=A, reason="x").decide(3)) == [
        eb.Write(A, Withdrawn(Money(3)))
    ]
    with pytest.raises(TypeError, match="abstract"):
        OnAccount(account=A)
    with pytest.raises(eb.InvalidValue, match=r"Close\.reason"):
        Close(account=A, reason=3)
    with pytest.raises(TypeError, match="lacks decide"):
        type("Open", (OnAccount,), {})


def test_declared_streams_whose_events_are_not_applied_are_refused():
    with pytest.raises(TypeError, match=r"Blind reads Limit streams.*LimitSet"):

        class Blind(eb.StatefulCommand[None, AccountEvent]):
            limit: eb.Declared[Limit]

            def initial(self): ...
            def apply(self, state, recorded, /): ...
            def decide(self, state, /): ...


def test_events_may_be_covered_by_their_base():
    class Base: ...

    @eb.event("test_command.derived")
    class Derived(Base): ...

    class Deriveds(eb.Stream[Derived], category="derived"): ...

    class Reading(eb.StatefulCommand[int, Base]):
        stream: eb.Declared[Deriveds]

        def initial(self):
            return 0

        def apply(self, state, recorded, /):
            return state + 1

        def decide(self, state, /):
            yield self.stream.write(Derived())

    with eb.open("memory:") as store:
        executor = eb.Executor(store)
        for version in (1, 2):
            done = executor.execute(Reading(stream="derived-1"))
            assert done.versions["derived-1"] == version


def test_the_events_of_a_generic_command_are_those_of_its_heir():
    class Generically(eb.StatefulCommand[None, E], Generic[E], abstract=True):
        def initial(self): ...
        def apply(self, state, recorded, /): ...
        def decide(self, state, /):
            return ()

    class Fine(Generically[Joined]):
        group: eb.Declared[Group]

    assert Fine(group="group-1").group == "group-1"
    with pytest.raises(TypeError, match="Deposited, Withdrawn"):

        class Wrong(Generically[Joined]):
            account: eb.Declared[Account]


# --- declaring streams ---------------------------------------------------------------


class NoState(eb.StatefulCommand[None, Any], abstract=True):
    def initial(self): ...
    def apply(self, state, recorded, /): ...
    def decide(self, state, /):
        return ()


Held = eb.Declared[Account]


def test_a_kind_of_the_function_around_the_command_is_found():
    class Local(eb.Stream[Joined], category="local"): ...

    def define():
        class Inner(eb.Stream[Joined], category="inner"): ...

        class Both(NoState):
            local: eb.Declared[Local]
            inner: eb.DeclaredMany[Inner]

        return Both

    both = define()
    assert (both.local.kind, both.inner.kind.category) == (Local, "inner")
    assert both(local="local-1", inner=["inner-1"]).inner == ("inner-1",)


SOURCE = """
import eventbraid as eb

class Plain(eb.Stream[int], category="plain"): ...

class Use(eb.StatefulCommand[None, int], abstract=True):
    plain: eb.Declared[Plain]
    many: "eb.DeclaredMany['Plain']"
    later: "Later"
"""


@pytest.mark.parametrize("future", ["", "from __future__ import annotations\n"])
@pytest.mark.parametrize("name", [{"__name__": "run_by_exec"}, {}])
def test_annotations_are_evaluated_in_a_namespace_that_is_no_module(future, name):
    source = SOURCE if future else SOURCE.replace("later:", "later: object = 1 #")
    exec(compile(future + source, "<cell>", "exec", dont_inherit=True), name)
    assert name["Use"].plain.kind is name["Plain"]
    assert name["Use"].many.kind is name["Plain"]


def test_a_kind_may_be_named_by_an_alias_or_be_generic():
    class Log(eb.Stream[E], Generic[E], category="log"): ...

    class Use(NoState):
        held: Held
        log: eb.Declared[Log[Joined]]

    assert (Use.held.kind, Use.log.kind) == (Account, Log)


def test_a_field_may_have_the_name_of_its_kind():
    class Named(NoState):
        Account: eb.Declared[Account]

    assert Named(Account=A).Account == A


@pytest.mark.parametrize("again", ["eb.Declared[Limit]", "str"])
def test_a_subclass_may_annotate_an_inherited_stream_again(again):
    class Base(NoState):
        account: eb.Declared[Account]

    def annotated(space):
        space["__annotations__"] = {"account": again}

    heir = types.new_class("Heir", (Base,), {}, annotated)
    with pytest.raises(TypeError, match="account"):
        heir()
    with pytest.raises(eb.errors.InvalidStreamId):
        heir(account="group-1")


@pytest.mark.parametrize(
    ("annotation", "message"),
    [
        ("eb.Declared[Missing]", "'Missing' is not defined.*TYPE_CHECKING"),
        ("eb.DeclaredMany['Missing']", "'Missing' is not defined"),
        ("eb.Declared[Account, Limit]", "can't be evaluated"),
        ("eb.Declared[Joined]", "Joined, which is not a kind of stream"),
        ("eb.Declared[eb.Stream]", "Stream, which is not a kind of stream"),
        ("eb.Declared[E]", "~E, which is not a kind of stream"),
        ("eb.Declared", "annotate it with Declared"),
        ("eb.Declared[Account] | None", "DeclaredMany"),
    ],
)
def test_an_annotation_that_names_no_kind_is_refused_at_the_definition(
    annotation, message
):
    def annotated(space):
        space["__annotations__"] = {"field": annotation}
        space["__module__"] = __name__

    with pytest.raises(TypeError, match=rf"(?s)Wrong\.field.*{message}"):
        types.new_class("Wrong", (NoState,), {}, annotated)


def test_other_fields_may_name_a_class_that_is_defined_later():
    class Early(NoState):
        account: eb.Declared[Account]
        later: Later

    assert Early(account=A, later=Later("x")).later.text == "x"


@eb.value_object
class Later:
    text: str


# --- making an instance --------------------------------------------------------------


def test_a_stream_is_given_by_its_id_or_by_its_kind():
    for account in (A, Account(A), AccountId(A), TRANSFER.source):
        assert Deposit(account=account, amount=Money(1)).account == A


@pytest.mark.parametrize(
    "wrong",
    ["limit-eu", "accounts-a", "", 3, None, Limit("limit-eu"), b"account-a"],
    ids=repr,
)
def test_a_stream_of_another_kind_is_refused(wrong):
    with pytest.raises(eb.errors.InvalidStreamId, match=r"Account"):
        Deposit(account=wrong, amount=Money(1))


def test_a_field_of_the_wrong_type_is_refused_with_the_remedy():
    with pytest.raises(eb.InvalidValue, match=r"Transfer\.amount.*write Money\(5\)"):
        dataclasses.replace(TRANSFER, amount=5)


def test_fields_are_all_needed_and_given_by_name():
    with pytest.raises(TypeError, match="amount"):
        Deposit(account=A)
    with pytest.raises(TypeError, match="account"):
        Deposit(amount=Money(1))
    with pytest.raises(TypeError, match="positional"):
        Deposit(A, Money(1))
    with pytest.raises(TypeError, match="unknown"):
        Deposit(account=A, amount=Money(1), unknown=1)


def test_a_command_cannot_be_changed():
    for name, value in [("amount", Money(2)), ("source", B)]:
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(TRANSFER, name, value)


def test_equal_commands_are_equal_and_print_their_fields():
    same = Transfer(source=Account(A), target=B, limit="limit-eu", amount=Money(1))
    assert (same, hash(same)) == (TRANSFER, hash(TRANSFER))
    assert same != dataclasses.replace(same, target="account-c")
    assert repr(Deposit(account=A, amount=Money(1))) == (
        "Deposit(account='account-a', amount=Money(1))"
    )


@pytest.mark.parametrize(
    "again", [copy.deepcopy, lambda c: pickle.loads(pickle.dumps(c))]
)
def test_commands_survive_copying_and_pickling(again):
    copied = again(TRANSFER)
    assert copied == TRANSFER
    assert copied.source.write(Deposited(Money(1))).owner is copied


def test_many_streams_are_declared_by_one_field():
    join = JoinAll(groups=["group-1", Group("group-2"), "group-1"])
    assert join.groups == ("group-1", "group-2")
    assert join.groups.of("group-2").write(Joined(A)).stream == "group-2"
    assert JoinAll(groups=()).groups == ()
    with pytest.raises(eb.errors.InvalidArgument, match="group-9"):
        join.groups.of("group-9")
    with pytest.raises(eb.errors.InvalidStreamId):
        JoinAll(groups=["account-a"])
    with pytest.raises(eb.errors.InvalidArgument, match="list"):
        JoinAll(groups="group-1")


def test_many_declared_streams_are_read_and_written():
    with eb.open("memory:") as store:
        done = eb.Executor(store).execute(JoinAll(groups=["group-1", "group-2"]))
        assert dict(done.versions) == {"group-1": 1, "group-2": 1}
        assert eb.Executor(store).execute(JoinAll(groups=[])).events == ()


# --- handles -------------------------------------------------------------------------


def test_a_handle_is_the_streams_id():
    handle = TRANSFER.source
    assert (handle, hash(handle), f"{handle}") == (A, hash(A), A)
    assert {A: 1}[handle] == 1


def test_a_handle_writes_events_with_metadata():
    write = TRANSFER.source.write(Withdrawn(Money(1)), metadata={"by": "mia"})
    assert (write.stream, write.event) == (A, Withdrawn(Money(1)))
    assert write.metadata == {"by": "mia"}
    assert type(write.stream) is str


def test_a_declared_field_can_be_looked_at_on_the_class():
    assert isinstance(Transfer.source, eb.Declared)
    assert isinstance(JoinAll.groups, eb.DeclaredMany)


# --- streams -------------------------------------------------------------------------


def test_a_stream_is_a_value():
    assert Account(A) == Account(A)
    assert Account(A) != Account(B)
    assert Account(A) != A
    assert len({Account(A), Account(A)}) == 1
    assert (str(Account(A)), repr(Account(A)), Account(A).id) == (
        A,
        "Account('account-a')",
        A,
    )


def test_a_stream_needs_a_category():
    with pytest.raises(TypeError, match="no category"):
        eb.Stream("account-a")
    for category in ["", "a-b"]:
        with pytest.raises(TypeError, match="category"):
            types.new_class("Bad", (eb.Stream[Any],), {"category": category})


def test_a_kind_of_a_kind_keeps_its_category_and_events():
    class Savings(Account): ...

    assert Savings.category == "account"
    assert Savings.events == Account.events == {Deposited, Withdrawn}
    assert Savings(A).id == A


def test_an_id_without_a_dash_is_its_own_category():
    assert Account("account").id == "account"


# --- rules ---------------------------------------------------------------------------


def test_a_rule_that_holds_says_nothing():
    assert eb.require(True, "never") is None


def test_a_rule_that_does_not_hold_rejects_with_its_facts():
    with pytest.raises(eb.CommandRejected) as rejected:
        eb.require(False, "too_little", "Not enough.", left=3, code_of="x")
    error = rejected.value
    assert (error.code, error.message) == ("too_little", "Not enough.")
    assert error.facts == {"left": 3, "code_of": "x"}
    with pytest.raises(eb.CommandRejected, match=r"too_little \(left=3\)"):
        eb.require(0, "too_little", left=3)
