"""The lifespan of an application: its store is open while it serves requests."""

from __future__ import annotations

import os
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, Generic, TypedDict, TypeVar, overload

import eventbraid as eb
from eventbraid.store import AsyncStore

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable
    from contextlib import AbstractAsyncContextManager
    from typing import NotRequired

StoreT = TypeVar("StoreT", bound=AsyncStore)


class WebState(TypedDict, Generic[StoreT]):
    """The state that `lifespan` gives to each request, ``request.state``.

    Attributes:
        store: The open store.
        executor: Executes commands on it.
        coordinator: Drives the sagas of the store, if the lifespan has a coordinator.

    Example:
        >>> from starlette.requests import Request
        >>> import eventbraid as eb
        >>> from eventbraid import web
        >>> async def head(request: Request[web.WebState[eb.AsyncEventStore]]) -> int:
        ...     return await request.state["store"].head()
    """

    store: StoreT
    executor: eb.AsyncExecutor
    coordinator: NotRequired[eb.SagaCoordinator]


@overload
def lifespan(
    store: str | os.PathLike[str],
    *,
    executor: Callable[[eb.AsyncEventStore], eb.AsyncExecutor] = ...,
    coordinator: Callable[[eb.AsyncEventStore], eb.SagaCoordinator] | None = ...,
) -> Callable[[object], AbstractAsyncContextManager[WebState[eb.AsyncEventStore]]]: ...


@overload
def lifespan(
    store: Callable[[], AbstractAsyncContextManager[StoreT]],
    *,
    executor: Callable[[StoreT], eb.AsyncExecutor] = ...,
    coordinator: Callable[[StoreT], eb.SagaCoordinator] | None = ...,
) -> Callable[[object], AbstractAsyncContextManager[WebState[StoreT]]]: ...


def lifespan(
    store: str | os.PathLike[str] | Callable[[], AbstractAsyncContextManager[Any]],
    *,
    executor: Callable[[Any], eb.AsyncExecutor] = eb.AsyncExecutor,
    coordinator: Callable[[Any], eb.SagaCoordinator] | None = None,
) -> Callable[[object], AbstractAsyncContextManager[WebState[Any]]]:
    """Return a lifespan that opens a store, and closes it when the application ends.

    Each worker process runs the lifespan, so all workers share the store. The lifespan
    of an application with further resources enters this one and adds to its state.

    Args:
        store: The location of the store, or a function that opens it with options:
            ``lambda: eb.open_async("shop.braid", mode="exclusive")``.
        executor: Makes the executor; by default, one with the default options.
        coordinator: Makes the coordinator of sagas, which then runs in each worker
            until the application ends. Without it, the application drives no sagas.

    Raises:
        InvalidArgument: `store` is neither a location nor a function.

    Example:
        >>> from contextlib import asynccontextmanager
        >>> from starlette.applications import Starlette
        >>> from eventbraid import web
        >>> app = Starlette(lifespan=web.lifespan("shop.braid"))
        >>> @asynccontextmanager
        ... async def with_greeting(app):
        ...     async with web.lifespan("shop.braid")(app) as state:
        ...         yield {**state, "greeting": "hello"}
        >>> app = Starlette(lifespan=with_greeting)
    """
    if isinstance(store, str | os.PathLike):
        # Each start of the application opens the store anew.
        opening: Callable[[], AbstractAsyncContextManager[Any]]
        opening = partial(eb.open_async, store)
    elif callable(store):
        opening = store
    else:
        raise eb.errors.InvalidArgument(
            "store of the lifespan",
            repr(store),
            "it must be a location, or a function that opens a store, such as "
            "lambda: eb.open_async('shop.braid')",
        )
    return partial(_serve, opening, executor, coordinator)


@asynccontextmanager
async def _serve(
    opening: Callable[[], AbstractAsyncContextManager[Any]],
    executor: Callable[[Any], eb.AsyncExecutor],
    coordinator: Callable[[Any], eb.SagaCoordinator] | None,
    app: object,
) -> AsyncGenerator[WebState[Any]]:
    del app
    async with AsyncExitStack() as stack:
        store = await stack.enter_async_context(opening())
        state = WebState[Any](store=store, executor=executor(store))
        if coordinator is not None:
            # It ends before the store is closed.
            state["coordinator"] = await stack.enter_async_context(coordinator(store))
        yield state
