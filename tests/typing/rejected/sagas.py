"""Wrong uses of sagas: both checkers must refuse each marked line."""

from __future__ import annotations

from datetime import timedelta

import eventbraid as eb

from tests.typing.accepted.sagas import Cents, Order, Receipt, RecordCapture

T = timedelta(seconds=1)


async def act(c: eb.StepContext[Order]) -> Receipt:
    return Receipt(c.state.total, Cents(1))  # refused: the state has no such field


async def other_result(c: eb.StepContext[Order], did: eb.StepCompleted[int] | eb.StepInDoubt) -> None: ...
async def forgetful(c: eb.StepContext[Order], did: eb.StepCompleted[Receipt]) -> None: ...
async def right(c: eb.StepContext[Order], did: eb.StepCompleted[Receipt] | eb.StepInDoubt) -> int:
    return 1


async def other_state(c: eb.StepContext[int]) -> None: ...
async def other_answer(c: eb.StepContext[Order]) -> eb.StepCompleted[int] | None: ...


def fold(order: Order, result: Receipt) -> Order:
    return order


def fold_another(order: Order, result: int) -> Order:
    return order


def no_command(c: eb.StepContext[Order], result: Receipt) -> str:
    return "x"


def records_text(c: eb.StepContext[Order], answer: str) -> RecordCapture | None:
    return None


eb.step("a", act)  # refused: no timeout
eb.step("a", act, timeout=5)  # refused: a timeout is a timedelta
eb.step("a", act, timeout=T).compensated_by(other_result)  # refused: another result type
eb.step("a", act, timeout=T).compensated_by(forgetful)  # refused: forgets the unknown outcome
eb.step("a", act, timeout=T).compensated_by(right, record=records_text)  # refused: another answer
eb.step("a", act, timeout=T, retry=3)  # refused: a retry is a RetryPolicy
eb.step("a", act, timeout=T, kind="pivot")  # refused: a kind is a StepKind
eb.RetryPolicy(jitter="some")  # refused: unknown jitter
eb.RetryPolicy(5)  # refused: keywords only


def assign(step: eb.Step[Order, Receipt], saga: eb.Saga[Order]) -> None:
    step.name = "b"  # refused: frozen
    wrong: eb.Saga[int] = saga  # refused: another state
    del wrong


async def use(coordinator: eb.SagaCoordinator, saga: eb.Saga[Order], order: Order) -> None:
    await coordinator.start(saga, {"cents": 1}, id="saga-1")  # refused: wrong start state
    await coordinator.start(saga, order)  # refused: no id
    handle = await coordinator.start(saga, order, id="saga-1")
    ended = await handle.result()
    number: int = ended.state  # refused: the state is an Order
    del number
    await coordinator.retry("saga-1")  # refused: who and why
    await coordinator.skip("saga-1", by="mia", note="done")  # refused: which step
