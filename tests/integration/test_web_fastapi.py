"""`eventbraid.web` under FastAPI, which calls the dependencies and validates requests.

The hazards: a dependency whose annotations FastAPI can't evaluate, and invalid requests
with a report of FastAPI's own form, which repeats secrets of the request.
"""

from __future__ import annotations

from typing import Annotated

import pytest

import eventbraid as eb
from eventbraid import web
from tests.asgi import served

fastapi = pytest.importorskip("fastapi")
pydantic = pytest.importorskip("pydantic")

pytestmark = pytest.mark.anyio


@eb.event("test.fastapi.light.switched")
class Switched:
    by: str


class Light(eb.Stream[Switched, int], category="light"):
    def initial(self):
        return 0

    def apply(self, state, event, /):
        return state + 1


class Switch(eb.Command):
    light: eb.Declared[Light]
    by: str

    def decide(self):
        eb.require(self.by != "ghost", "not_a_person", by=self.by)
        yield self.light.write(Switched(self.by))


class Body(pydantic.BaseModel):
    by: Annotated[str, pydantic.Field(max_length=8)]
    tags: tuple[int, ...] = ()


Executor = Annotated[eb.AsyncExecutor, fastapi.Depends(web.executor)]
Key = Annotated[str, fastapi.Depends(web.idempotency_key)]
OptionalKey = Annotated[str | None, fastapi.Depends(web.optional_idempotency_key)]
Metadata = Annotated[dict[str, str], fastapi.Depends(web.causal_metadata)]
Coordinator = Annotated[eb.SagaCoordinator, fastapi.Depends(web.coordinator)]


def light_api():
    app = fastapi.FastAPI(
        lifespan=web.lifespan("memory:"), exception_handlers=web.problem_handlers()
    )

    @app.post("/lights/{light}")
    async def switch(
        light: str, body: Body, executor: Executor, key: Key, metadata: Metadata
    ) -> dict[str, object]:
        done = await executor.execute(
            Switch(light=light, by=body.by), idempotency_key=key, metadata=metadata
        )
        return {"versions": dict(done.versions), "replayed": done.replayed}

    @app.get("/lights/{light}")
    async def show(
        light: str, executor: Executor, key: OptionalKey, limit: int = 1
    ) -> dict[str, object]:
        return {"switched": (await executor.load(Light(light))).state, "key": key}

    @app.get("/sagas")
    async def sagas(coordinator: Coordinator) -> str:
        return "not reached"

    @app.get("/teapot")
    async def teapot() -> None:
        raise fastapi.HTTPException(418, {"is": ["short", "stout"]})

    return app


@pytest.fixture
async def api(anyio_backend):
    async with served(light_api()) as started:
        yield started


async def post(api, path="/lights/light-1", body=b'{"by": "me"}', key="k-1"):
    headers = {"Content-Type": "application/json", "X-Correlation-ID": "evening"}
    if key:
        headers["Idempotency-Key"] = key
    return await api.ask("POST", path, headers, body)


def report_of(answer):
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json["status"] == answer.status
    return answer.json


async def test_a_command_is_executed_and_a_repeated_one_replayed(api):
    first, again = await post(api), await post(api)
    assert first.json == {"versions": {"light-1": 1}, "replayed": False}
    assert again.json == {"versions": {"light-1": 1}, "replayed": True}
    [event] = [one async for one in api.state["store"].read_stream("light-1")]
    assert event.correlation_id == "evening"
    shown = await api.ask("GET", "/lights/light-1")
    assert shown.json == {"switched": 1, "key": None}


async def test_a_rejection_is_a_problem(api):
    report = report_of(await post(api, body=b'{"by": "ghost"}'))
    assert (report["status"], report["code"]) == (409, "not_a_person")
    assert report["facts"] == {"by": "ghost"}


async def test_a_missing_key_and_a_wrong_id_are_problems(api):
    missing = report_of(await post(api, key=None))
    assert (missing["status"], missing["type"]) == (
        400,
        "/problems/idempotency-key-missing",
    )
    wrong = report_of(await post(api, path="/lights/lamp-1"))
    assert (wrong["status"], wrong["type"]) == (422, "/problems/invalid-id")


@pytest.mark.parametrize(
    ("body", "pointers"),
    [
        (b'{"by": "password-1234"}', ["#/by"]),
        (b'{"by": "me", "tags": [1, "x", "y"]}', ["#/tags/1", "#/tags/2"]),
        (b"{}", ["#/by"]),
        (b"", ["#"]),
    ],
)
async def test_an_invalid_body_is_a_problem_that_names_the_places(api, body, pointers):
    answer = await post(api, body=body)
    report = report_of(answer)
    assert (report["status"], report["type"]) == (422, "/problems/invalid-request")
    assert [one["pointer"] for one in report["errors"]] == pointers
    assert all(one["detail"] for one in report["errors"])
    assert b"password-1234" not in answer.body


async def test_a_body_that_is_not_json_is_a_problem(api):
    report = report_of(await post(api, body=b'{"by":'))
    assert report["type"] == "/problems/invalid-request"
    [error] = report["errors"]
    assert error["pointer"] == "#"


async def test_an_invalid_parameter_is_named(anyio_backend):
    app = light_api()

    @app.get("/page")
    async def page(limit: int, size: Annotated[int, fastapi.Header()]) -> int:
        return limit + size

    async with served(app) as api:
        report = report_of(await api.ask("GET", "/page", {"Size": "x"}))
    places = [(one["in"], one["name"]) for one in report["errors"]]
    assert sorted(places) == [("header", "size"), ("query", "limit")]


async def test_the_detail_of_an_http_exception_may_be_any_json(api):
    report = report_of(await api.ask("GET", "/teapot"))
    assert report == {
        "type": "about:blank",
        "title": "I'm a Teapot",
        "status": 418,
        "detail": "I'm a Teapot",
        "data": {"is": ["short", "stout"]},
    }


async def test_the_openapi_document_can_be_made(api):
    document = (await api.ask("GET", "/openapi.json")).json
    assert set(document["paths"]) == {
        "/lights/{light}",
        "/sagas",
        "/teapot",
    }
