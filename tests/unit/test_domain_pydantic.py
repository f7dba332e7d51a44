"""Value classes work in pydantic's models as FastAPI uses them, there and back.

FastAPI parses a body before it validates it, and parameters of paths and queries are
texts: both are plain Python values for pydantic.
"""

from __future__ import annotations

import datetime as dt

import pydantic
import pytest

import eventbraid as eb


class Money(eb.Int, ge=0): ...


class Fee(Money): ...


class Quantity(eb.Int, gt=0, le=99): ...


class OrderId(eb.Id, prefix="order"): ...


class Country(eb.Text, pattern="[A-Z]{2}"): ...


class Name(eb.Text, min_length=2, max_length=5): ...


class Pay(pydantic.BaseModel):
    order: OrderId
    amount: Money
    country: Country
    fees: dict[OrderId, Money] = {}


class StrictPay(Pay):
    model_config = pydantic.ConfigDict(strict=True)


BODY = {"order": "order-1", "amount": 5, "country": "DE", "fees": {"order-2": 3}}
PAY = Pay(
    order=OrderId("order-1"),
    amount=Money(5),
    country=Country("DE"),
    fees={OrderId("order-2"): Money(3)},
)


def test_plain_values_become_values_of_the_kinds():
    made = Pay.model_validate(BODY)
    assert made == PAY
    kinds = [type(made.order), type(made.amount), type(made.country)]
    assert kinds == [OrderId, Money, Country]
    assert [type(key) for key in made.fees] == [OrderId]


@pytest.mark.parametrize("model", [Pay, StrictPay])
def test_a_model_survives_each_way_there_and_back(model):
    made = model(**dict(PAY))
    assert model.model_validate(made.model_dump()) == made
    assert model.model_validate_json(made.model_dump_json()) == made
    assert Pay.model_validate(made.model_dump(mode="json")) == PAY


@pytest.mark.parametrize(("given", "made"), [("5", 5), (" 7 ", 7), (Fee(3), 3), (0, 0)])
def test_a_parameter_becomes_a_number_of_the_kind(given, made):
    found = pydantic.TypeAdapter(Money).validate_python(given)
    assert (type(found), int(found)) == (Money, made)


@pytest.mark.parametrize(
    ("kind", "given"),
    [
        *((Money, bad) for bad in (-1, True, 5.0, 5.5, None, "x", "", b"5", 2**63)),
        (Money, Quantity(5)),
        *(
            (OrderId, bad)
            for bad in ("x", 5, None, "order-", "order-a b", "order-\ud800")
        ),
        (OrderId, Country("DE")),
        *((Country, bad) for bad in ("de", "DEU", "", 5, OrderId("order-1"))),
        *((Name, bad) for bad in ("a", "abcdef")),
    ],
    ids=repr,
)
def test_what_is_no_value_of_the_kind_is_refused(kind, given):
    with pytest.raises(pydantic.ValidationError):
        pydantic.TypeAdapter(kind).validate_python(given)


@pytest.mark.parametrize("text", ['"5"', "5.0", "true", "null", "-1"])
def test_json_has_to_have_a_whole_number(text):
    with pytest.raises(pydantic.ValidationError):
        pydantic.TypeAdapter(Money).validate_json(text)


@pytest.mark.parametrize("change", [{"amount": 5}, {"order": "order-1"}])
def test_strict_mode_takes_instances_only(change):
    with pytest.raises(pydantic.ValidationError):
        StrictPay.model_validate({**dict(PAY), **change})


@pytest.mark.parametrize("mode", ["validation", "serialization"])
def test_the_json_schema_has_the_bounds(mode):
    class Form(pydantic.BaseModel):
        amount: Money
        quantity: Quantity
        order: OrderId
        country: Country
        name: Name

    found = Form.model_json_schema(mode=mode)["properties"]
    assert found["amount"]["minimum"] == 0
    assert (found["quantity"]["minimum"], found["quantity"]["maximum"]) == (1, 99)
    assert found["order"]["pattern"] == r"^order-\S+$"
    assert found["country"]["pattern"] == "^(?:[A-Z]{2})$"
    assert (found["name"]["minLength"], found["name"]["maxLength"]) == (2, 5)


@eb.register_event("test_pydantic.aliased")
class Aliased(pydantic.BaseModel):
    amount: Money = pydantic.Field(alias="theAmount")
    at: dt.datetime = pydantic.Field(
        default=dt.datetime(2026, 1, 1, tzinfo=dt.UTC),
        validation_alias="in",
        serialization_alias="out",
    )

    @pydantic.computed_field
    def double(self) -> int:
        return int(self.amount) * 2


@eb.event("test_pydantic.paid")
class Paid:
    pay: Pay
    others: tuple[Aliased, ...] = ()


@pytest.mark.parametrize(
    "event", [Aliased(theAmount=5), Paid(PAY), Paid(PAY, (Aliased(theAmount=5),))]
)
def test_a_model_is_an_event_and_part_of_one(event):
    with eb.open("memory:") as store:
        store.append([eb.new_event("pay-1", event)])
        [recorded] = store.read_stream("pay-1")
    again = eb.decode_event(recorded)
    assert (type(again), again) == (type(event), event)


def test_a_body_with_aliases_is_read_too():
    with eb.open("memory:") as store:
        store.append([("pay-1", "test_pydantic.aliased", b'{"theAmount":5}')])
        [recorded] = store.read_stream("pay-1")
    assert eb.decode_event(recorded) == Aliased(theAmount=5)


class Rounded(pydantic.BaseModel):
    value: float

    @pydantic.field_serializer("value")
    def shorten(self, value: float) -> float:
        return round(value, 1)


@eb.event("test_pydantic.measured")
class Measured:
    by: Rounded


def test_a_model_that_would_come_back_as_another_is_refused():
    eb.encode_event(Measured(Rounded(value=0.5)))
    with pytest.raises(eb.InvalidValue, match="would come back as"):
        eb.encode_event(Measured(Rounded(value=0.55)))


class Payments(eb.Stream[Paid], category="pay"): ...


class Register(eb.StatefulCommand[None, Paid]):
    payments: eb.Declared[Payments]
    pay: Pay

    def initial(self):
        return None

    def apply(self, state, recorded, /):
        return None

    def decide(self, state, /):
        yield self.payments.write(Paid(self.pay))


def test_a_model_is_a_field_of_a_keyed_command():
    with eb.open("memory:") as store:
        executor = eb.Executor(store)
        first = Register(payments="pay-1", pay=PAY)
        other = Register(payments="pay-1", pay=Pay(**{**BODY, "amount": 6}))
        assert not executor.execute(first, idempotency_key="a").replayed
        assert executor.execute(first, idempotency_key="a").replayed
        with pytest.raises(eb.errors.IdempotencyMismatch):
            executor.execute(other, idempotency_key="a")
