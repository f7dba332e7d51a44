"""Uses of the web integration that type checkers must refuse."""

from starlette.requests import Request

import eventbraid as eb
from eventbraid import web


class State(web.WebState[eb.AsyncEventStore]):
    greeting: str


async def wrong(request: Request[State], store: eb.EventStore) -> None:
    web.lifespan(7)  # refused
    web.lifespan(store)  # refused
    web.executor("executor")  # refused
    web.problem_handlers(rejections={"gone": "404"})  # refused
    web.problem_handlers(True)  # refused
    web.problem_of(ValueError())  # refused
    web.Problem("404", "gone", "it is gone")  # refused
    web.WebState(store=store)  # refused
    request.state["greetings"]  # refused


def state_without_greeting(executor: eb.AsyncExecutor, store: eb.AsyncEventStore) -> State:
    return {"store": store, "executor": executor}  # refused
