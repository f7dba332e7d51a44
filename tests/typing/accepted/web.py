"""Uses of the web integration that type checkers must accept."""

from collections.abc import AsyncGenerator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext
from typing import assert_type

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.websockets import WebSocket

import eventbraid as eb
from eventbraid import web
from eventbraid.store import AsyncStore
from eventbraid.testing import AsyncFaultyStore


class State(web.WebState[eb.AsyncEventStore]):
    greeting: str


async def untyped(request: Request) -> None:
    assert_type(web.executor(request), eb.AsyncExecutor)
    assert_type(web.coordinator(request), eb.SagaCoordinator)
    assert_type(web.idempotency_key(request), str)
    assert_type(web.optional_idempotency_key(request), str | None)
    assert_type(web.causal_metadata(request), dict[str, str])


async def typed(request: Request[State], socket: WebSocket) -> None:
    assert_type(request.state["store"], eb.AsyncEventStore)
    assert_type(request.state["executor"], eb.AsyncExecutor)
    assert_type(request.state["greeting"], str)
    assert_type(web.executor(request), eb.AsyncExecutor)
    assert_type(web.executor(socket), eb.AsyncExecutor)


@asynccontextmanager
async def extended(app: Starlette) -> AsyncGenerator[State]:
    async with web.lifespan("shop.braid")(app) as state:
        yield {**state, "greeting": "hello"}


def faulty(store: eb.AsyncEventStore) -> AbstractAsyncContextManager[AsyncFaultyStore]:
    return nullcontext(AsyncFaultyStore(store))


def executor_of(store: AsyncStore) -> eb.AsyncExecutor:
    return eb.AsyncExecutor(store)


async def applications(store: eb.AsyncEventStore) -> None:
    handlers = web.problem_handlers(rejections={"gone": 404}, show_facts=False)
    Starlette(lifespan=web.lifespan("shop.braid"), exception_handlers=handlers)
    Starlette(lifespan=extended)
    Starlette(
        lifespan=web.lifespan(
            lambda: eb.open_async("shop.braid", mode="exclusive"),
            executor=executor_of,
            coordinator=lambda opened: eb.SagaCoordinator(opened, []),
        )
    )
    async with web.lifespan(lambda: faulty(store))(None) as state:
        assert_type(state["store"], AsyncFaultyStore)
