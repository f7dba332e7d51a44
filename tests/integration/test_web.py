"""`eventbraid.web` under Starlette: each error reaches the client as a problem report.

The hazards: a report that shows what only the operator may see, an error that is
missing from the log, a client that repeats a request that may have taken effect, and a
store that stays open when the application has ended.
"""

from __future__ import annotations

import json
import logging
import re
from contextlib import asynccontextmanager, nullcontext
from datetime import timedelta

import pytest
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import HTTPConnection
from starlette.responses import JSONResponse
from starlette.routing import Route, WebSocketRoute

import eventbraid as eb
from eventbraid import errors, testing, web
from tests.asgi import served

pytestmark = pytest.mark.anyio


class Cents(eb.Int, ge=0):
    """An amount."""


@eb.event("test.web.purse.filled")
class Filled:
    amount: Cents


class Purse(eb.Stream[Filled, Cents], category="purse"):
    def initial(self):
        return Cents(0)

    def apply(self, state, event, /):
        return state + event.amount


class Fill(eb.Command):
    purse: eb.Declared[Purse]
    amount: Cents

    def decide(self):
        after = self.purse.state + self.amount
        eb.require(after <= Cents(100), "purse_full", balance=self.purse.state)
        yield self.purse.write(Filled(self.amount))


async def fill(request):
    body = await request.json()
    done = await web.executor(request).execute(
        Fill(purse=body["purse"], amount=Cents(body["amount"])),
        idempotency_key=web.optional_idempotency_key(request),
        metadata=web.causal_metadata(request),
    )
    return JSONResponse({"versions": dict(done.versions), "replayed": done.replayed})


def raising(error):
    async def endpoint(request):
        raise error

    return endpoint


def app_of(*endpoints, store="memory:", lifespan=None, **options):
    routes = [Route("/fill", fill, methods=["POST"])]
    routes += [Route(f"/{n}", one) for n, one in enumerate(endpoints)]
    return Starlette(
        routes=routes,
        lifespan=lifespan or web.lifespan(store),
        exception_handlers=web.problem_handlers(**options),
    )


def body_of(purse="purse-1", amount=1):
    return json.dumps({"purse": purse, "amount": amount}).encode()


async def answer_to(error, **options):
    async with served(app_of(raising(error), **options)) as app:
        return await app.ask("GET", "/0")


async def run(app, kind, path, sent):
    """Run one connection; collect what the application sends before it raises."""

    async def receive():
        return {"type": f"{kind}.connect" if kind == "websocket" else "http.request"}

    async def send(message):
        sent.append(message)

    scope = {"type": kind, "path": path, "headers": [], "query_string": b""}
    await app(scope | {"method": "GET"}, receive, send)


def assert_problem(answer, status, kind, **members):
    assert answer.status == status, answer.body
    assert answer.headers["content-type"] == "application/problem+json"
    report = answer.json
    assert report.pop("detail")
    assert report.pop("title")
    assert report == {"type": f"/problems/{kind}", "status": status} | members


# --- the mapping ----------------------------------------------------------------------

MAPPED = [
    (errors.CommandRejected("closed", facts={"since": 7}), 409, "command-rejected", None),
    (errors.InvalidValue("Cents", "-1", "it must be >= 0", "x"), 422, "invalid-value", None),
    (errors.InvalidStreamId("stream", "x", "it is bad"), 422, "invalid-id", None),
    (errors.InvalidArgument("thing", "x", "it is bad"), 422, "invalid-argument", None),
    (errors.LimitExceeded("events of a commit", 9, 8), 413, "too-large", None),
    (errors.IdempotencyMismatch("k"), 422, "idempotency-key-reused", None),
    (errors.VersionConflict([]), 409, "version-conflict", None),
    (errors.StreamDeleted("purse-1"), 410, "deleted", None),
    (errors.RetriesExhausted(5, errors.VersionConflict([])), 503, "busy", "1"),
    (errors.StoreBusy("shop.braid", "pid 7"), 503, "busy", "1"),
    (errors.LeaseHeld("importer", "pid 7", None, 1.0), 503, "busy", "1"),
    (errors.LeaseLost("importer", 3, 4), 503, "busy", "1"),
    (errors.DeadlineExceeded("Fill", 3), 504, "deadline-exceeded", "1"),
    (errors.StorageFull("shop.braid/log/1", "disk full"), 507, "storage-full", "60"),
    (errors.StoreClosed(), 503, "store-out-of-service", "5"),
    (errors.StorePoisoned("I/O error"), 503, "store-out-of-service", "5"),
    (errors.StoreDetached("shop.braid", "it was deleted"), 503, "store-out-of-service", "5"),
    (errors.StoreUnavailable("shop.braid", "open", "denied"), 503, "store-out-of-service", "5"),
    (errors.CorruptStore("shop.braid/log/1", 9, "bad"), 503, "store-out-of-service", "5"),
    (errors.OutcomeUnknown("EIO", idempotency_key="k"), 503, "outcome-unknown", "1"),
    (errors.OutcomeUnknown("EIO"), 503, "outcome-unknown", None),
    (errors.SagaNotFound("saga-1"), 404, "saga-not-found", None),
    (errors.SagaExists("saga-1", "another state"), 409, "saga-exists", None),
    (errors.SagaBlocked("saga-1", "ship", 2, "needs_code"), 503, "saga-blocked", None),
    (errors.CoordinatorClosed(), 503, "store-out-of-service", "5"),
    (errors.UnknownEventType("purse.filled"), 500, "internal-error", None),
    (errors.InvalidEventType("event type", "", "empty"), 500, "internal-error", None),
    (errors.FoldError("Purse", "filled", "purse-1", 3, 7), 500, "internal-error", None),
    (errors.UndeclaredStream("purse-9", "Fill"), 500, "internal-error", None),
]  # fmt: skip

# What an operator may see and a client may not.
SECRETS = ("shop.braid", "pid 7", "purse", "Fill", "importer", "EIO", "-1", "saga-1")


@pytest.mark.parametrize(
    ("error", "status", "kind", "again"),
    MAPPED,
    ids=[f"{number}-{type(row[0]).__name__}" for number, row in enumerate(MAPPED)],
)
async def test_each_error_is_a_problem_without_internals(error, status, kind, again):
    response = web.problem_of(error).response()
    report = json.loads(response.body)
    assert (response.status_code, report["status"]) == (status, status)
    assert report["type"] == f"/problems/{kind}"
    assert report["detail"]
    assert response.headers.get("retry-after") == again
    assert not [one for one in SECRETS if one in response.body.decode()]


def test_the_page_has_the_same_table(repository):
    page = (repository / "docs/how-to/serve-commands.md").read_text()
    rows = re.findall(r"^\| (.+) \| (\d+) \| `(.+)` \| (\d*) ?\|$", page, re.MULTILINE)
    documented = {
        (name, int(status), kind, again or None)
        for names, status, kind, again in rows
        for name in re.findall(r"`([A-Z]\w+)`", names)
    }
    tested = {(type(error).__name__, *row) for error, *row in MAPPED}
    tested = {row for row in tested if row[2] != "internal-error"}
    unusable = {row for row in tested if row[2] == "store-out-of-service"}
    unusable -= {row for row in unusable if row[0] == "CoordinatorClosed"}
    row_of_all = ("StoreUnusable", 503, "store-out-of-service", "5")
    assert documented == tested - unusable | {row_of_all}


def test_every_error_of_the_library_has_a_deliberate_problem():
    """An error that is added later must get its place in the table or in this list."""
    internal = {
        "AppendError", "CommandError", "DiscoveryLimit", "EventDecodeError", "EventError",
        "EventbraidError", "FoldError", "GraphMismatch", "IncompatibleFormat",
        "InvalidEventType", "InvalidSaga", "InvalidTransition", "LeaseError", "NotAStore",
        "SagaError", "SharingUnsupported", "StoreError", "UndeclaredStream",
        "UnknownCodec", "UnknownEventType",
    }  # fmt: skip
    unmapped = {
        name
        for name in errors.__all__
        if isinstance(kind := getattr(errors, name), type)
        and issubclass(kind, eb.EventbraidError)
        and kind is not errors.CommandRejected
        # An error without the arguments of its constructor: only its class is asked.
        and _kind_of(kind) == "internal-error"
    }
    assert unmapped == internal


def _kind_of(kind):
    error = kind.__new__(kind)
    for name in ("type", "bound", "reason", "idempotency_key", "message"):
        setattr(error, name, "")
    return web.problem_of(error).kind


# --- commands -------------------------------------------------------------------------


async def test_a_command_is_executed_and_a_repeated_one_replayed(anyio_backend):
    headers = {"Idempotency-Key": '"k-1"', "X-Correlation-ID": "visit-7"}
    async with served(app_of()) as app:
        first = await app.ask("POST", "/fill", headers, body_of())
        again = await app.ask("POST", "/fill", headers, body_of())
        [event] = [one async for one in app.state["store"].read_stream("purse-1")]
    assert first.json == {"versions": {"purse-1": 1}, "replayed": False}
    assert again.json == {"versions": {"purse-1": 1}, "replayed": True}
    assert event.correlation_id == "visit-7"


async def test_a_rejection_has_its_code_and_facts(anyio_backend):
    async with served(app_of()) as app:
        await app.ask("POST", "/fill", body=body_of(amount=60))
        answer = await app.ask("POST", "/fill", body=body_of(amount=60))
    assert_problem(
        answer, 409, "command-rejected", code="purse_full", facts={"balance": 60}
    )


async def test_a_rejection_can_be_reported_without_its_facts(anyio_backend):
    rejected = eb.CommandRejected("purse_full", facts={"balance": 60})
    answer = await answer_to(rejected, show_facts=False)
    assert_problem(answer, 409, "command-rejected", code="purse_full")
    assert "60" not in answer.json["detail"]
    spoken = eb.CommandRejected("purse_full", "the purse is full", {"balance": 60})
    answer = await answer_to(spoken, show_facts=False)
    assert answer.json["detail"] == "the purse is full"


async def test_a_code_can_have_its_own_status(anyio_backend):
    answer = await answer_to(eb.CommandRejected("gone"), rejections={"gone": 404})
    assert_problem(answer, 404, "command-rejected", code="gone", facts={})


@pytest.mark.parametrize("status", [0, 200, 399, 600])
def test_a_status_that_is_no_error_is_refused_at_the_start(status):
    with pytest.raises(errors.InvalidArgument, match="400 to 599"):
        web.problem_handlers(rejections={"gone": status})


async def test_facts_of_any_type_have_a_form_in_json(anyio_backend):
    facts = {
        "id": "a\ud800",
        "span": timedelta(hours=1),
        "keys": {(1, 2): Cents(3)},
        "kind": Purse,
        "type": "x",
    }
    answer = await answer_to(eb.CommandRejected("odd\ud800", facts=facts))
    assert answer.status == 409
    assert answer.json["facts"]
    assert answer.json["type"] == "/problems/command-rejected"


@pytest.mark.parametrize(
    ("body", "status", "kind"),
    [
        (body_of(amount=-1), 422, "invalid-value"),
        (body_of(amount="1"), 422, "invalid-value"),
        (body_of(purse="account-1"), 422, "invalid-id"),
        (body_of(purse="purse-\n"), 422, "invalid-id"),
        (body_of(purse="purse-" + "x" * 300), 422, "invalid-id"),
    ],
)
async def test_invalid_values_are_refused_without_showing_them(
    anyio_backend, body, status, kind
):
    async with served(app_of()) as app:
        assert_problem(await app.ask("POST", "/fill", body=body), status, kind)
        assert await app.state["store"].head() == 0


async def test_a_known_key_with_another_request_is_refused(anyio_backend):
    headers = {"Idempotency-Key": "k-1"}
    async with served(app_of()) as app:
        await app.ask("POST", "/fill", headers, body_of())
        answer = await app.ask("POST", "/fill", headers, body_of(amount=2))
    assert_problem(answer, 422, "idempotency-key-reused")


@pytest.mark.parametrize(
    ("fault", "status", "kind"),
    [
        (
            testing.Failure(error=errors.StorageFull("x", "full")),
            507,
            "storage-full",
        ),
        (testing.UnknownOutcome(committed=False), 503, "outcome-unknown"),
        (testing.Conflict(), 503, "busy"),
    ],
)
async def test_faults_of_the_store_reach_the_client(anyio_backend, fault, status, kind):
    async with eb.open_async("memory:") as store:
        faulty = testing.AsyncFaultyStore(store, fault)
        lifespan = web.lifespan(
            lambda: nullcontext(faulty),
            executor=lambda it: eb.AsyncExecutor(
                it, retry=eb.RetryPolicy(maximum_attempts=1)
            ),
        )
        headers = {"Idempotency-Key": "k-1"}
        async with served(app_of(lifespan=lifespan)) as app:
            answer = await app.ask("POST", "/fill", headers, body_of())
    assert_problem(answer, status, kind)


# --- other exceptions -----------------------------------------------------------------


@pytest.mark.parametrize(
    "error", [KeyError("password"), errors.UnknownEventType("password")]
)
async def test_a_bug_shows_nothing_and_reaches_the_server(anyio_backend, error):
    sent = []
    with pytest.raises(type(error), match="password"):
        await run(app_of(raising(error)), "http", "/0", sent)
    assert sent[0]["status"] == 500
    assert json.loads(sent[1]["body"]) == {
        "type": "/problems/internal-error",
        "title": "Internal Server Error",
        "status": 500,
        "detail": "the server failed",
    }


async def test_errors_of_the_server_are_logged_and_refusals_only_for_debugging(
    anyio_backend, caplog
):
    caplog.set_level(logging.DEBUG, "eventbraid.web")
    await answer_to(eb.CommandRejected("closed"))
    await answer_to(errors.InvalidValue("Cents", "-7", "it must be >= 0", "x"))
    assert [one.levelname for one in caplog.records] == ["DEBUG", "DEBUG"]
    assert "-7" in caplog.records[1].getMessage()
    caplog.clear()
    await answer_to(errors.StorageFull("shop.braid", "full"))
    [full] = caplog.records
    assert "shop.braid" in full.getMessage()
    assert (full.levelname, full.exc_info) == ("ERROR", None)
    caplog.clear()
    await answer_to(errors.InvalidArgument("thing", "x", "it is bad"))
    [doubtful] = caplog.records
    assert doubtful.name == "eventbraid.web"
    assert doubtful.exc_info


async def test_a_path_with_a_line_break_makes_one_line_of_the_log(
    anyio_backend, caplog
):
    full = raising(errors.StorageFull("shop.braid", "full"))
    app = Starlette(
        routes=[Route("/{name}", full)], exception_handlers=web.problem_handlers()
    )
    async with served(app) as started:
        await started.ask("GET", "/a\nERROR forged")
    [record] = caplog.records
    assert r"GET '/a\nERROR forged' failed" in record.getMessage()


async def test_exceptions_of_the_framework_are_problems(anyio_backend):
    async with served(app_of()) as app:
        missing = await app.ask("GET", "/nowhere")
        wrong = await app.ask("DELETE", "/fill")
    assert missing.json == {
        "type": "about:blank",
        "title": "Not Found",
        "status": 404,
        "detail": "Not Found",
    }
    assert (wrong.status, "POST" in wrong.headers["allow"]) == (405, True)


async def test_a_redirect_stays_a_redirect(anyio_backend):
    answer = await answer_to(HTTPException(303, headers={"Location": "/1"}))
    assert (answer.status, answer.headers["location"], answer.body) == (303, "/1", b"")


async def test_a_problem_of_the_application_is_sent_as_it_is(anyio_backend):
    problem = web.Problem(
        429,
        "too-fast",
        "one order a second",
        retry_after=1,
        headers={"Connection": "close"},
        extensions={"limit": Cents(1), "status": 200},
    )
    answer = await answer_to(problem, type_prefix="https://shop.test/problems#")
    assert answer.headers["connection"] == "close"
    assert answer.headers["retry-after"] == "1"
    assert answer.json == {
        "type": "https://shop.test/problems#too-fast",
        "title": "Too Many Requests",
        "status": 429,
        "detail": "one order a second",
        "limit": 1,
    }


def test_a_problem_must_be_an_error():
    with pytest.raises(errors.InvalidArgument, match="400 to 599"):
        web.Problem(204, "x", "y")
    assert json.loads(web.Problem(599, "x", "y").response().body)["title"] == "Error"


@pytest.mark.parametrize(
    ("error", "code", "reason"),
    [
        (errors.InvalidValue("Cents", "-1", "x", "y"), 1008, "invalid-value"),
        (errors.StorageFull("x", "full"), 1013, "storage-full"),
        (errors.SagaBlocked("saga-1", "ship", 2, "needs_code"), 1011, "saga-blocked"),
        (web.Problem(400, None, "x"), 1008, ""),
    ],
)
@pytest.mark.parametrize("is_accepted", [True, False])
async def test_a_websocket_is_closed_with_a_code(
    anyio_backend, error, code, reason, is_accepted
):
    async def endpoint(websocket):
        if is_accepted:
            await websocket.accept()
        raise error

    app = Starlette(
        routes=[WebSocketRoute("/", endpoint)],
        exception_handlers=web.problem_handlers(),
    )
    sent = []
    await run(app, "websocket", "/", sent)
    assert sent[-1] == {"type": "websocket.close", "code": code, "reason": reason}


# --- the lifespan ---------------------------------------------------------------------


async def test_the_store_is_open_while_the_application_runs(anyio_backend, tmp_path):
    async with served(app_of(store=tmp_path / "shop.braid")) as app:
        store = app.state["store"]
        assert set(app.state) == {"store", "executor"}
        assert await store.head() == 0
    with pytest.raises(errors.StoreClosed):
        await store.head()


async def test_an_application_can_be_started_again(anyio_backend, tmp_path):
    app = app_of(store=str(tmp_path / "shop.braid"))
    for version in (1, 2):
        async with served(app) as started:
            answer = await started.ask("POST", "/fill", body=body_of())
        assert answer.json["versions"] == {"purse-1": version}


async def test_a_lifespan_can_be_extended(anyio_backend):
    @asynccontextmanager
    async def lifespan(app):
        async with web.lifespan("memory:")(app) as state:
            yield {**state, "greeting": "hello"}

    async with served(app_of(lifespan=lifespan)) as app:
        assert app.state["greeting"] == "hello"
        assert (await app.ask("POST", "/fill", body=body_of())).status == 200


async def test_a_coordinator_runs_while_the_application_does(anyio_backend):
    async def greet(context) -> str:
        return f"hello {context.state}"

    greeting = eb.Saga(
        "web-greeting",
        str,
        steps=[
            eb.step(
                "greet",
                greet,
                timeout=timedelta(seconds=10),
                then=lambda state, result: result,
            ).without_compensation()
        ],
    )

    async def endpoint(request):
        handle = await web.coordinator(request).start(greeting, "you", id="saga-1")
        return JSONResponse((await handle.result()).state)

    lifespan = web.lifespan(
        "memory:", coordinator=lambda store: eb.SagaCoordinator(store, [greeting])
    )
    async with served(app_of(endpoint, lifespan=lifespan)) as app:
        answer = await app.ask("GET", "/0")
        coordinator = app.state["coordinator"]
    assert answer.json == "hello you"
    with pytest.raises(errors.CoordinatorClosed):
        await coordinator.start(greeting, "you", id="saga-2")


@pytest.mark.parametrize("store", [None, 7, b"shop.braid"])
def test_a_store_that_is_none_is_refused_at_the_start(store):
    with pytest.raises(errors.InvalidArgument, match="store of the lifespan"):
        web.lifespan(store)


# --- dependencies ---------------------------------------------------------------------


def connection(*headers, **scope):
    pairs = [
        (name.lower().encode(), value.encode("latin-1")) for name, value in headers
    ]
    return HTTPConnection({"type": "http", "headers": pairs, **scope})


@pytest.mark.parametrize("dependency", [web.executor, web.coordinator])
@pytest.mark.parametrize("scope", [{}, {"state": {}}])
def test_a_missing_lifespan_is_named_with_the_remedy(dependency, scope):
    with pytest.raises(RuntimeError, match=r"lifespan=eventbraid\.web\.lifespan"):
        dependency(connection(**scope))


@pytest.mark.parametrize(
    ("given", "key"),
    [
        ("8e03978e", "8e03978e"),
        ('"8e03978e"', "8e03978e"),
        (r'"a \"b\" \\"', r'a "b" \ '.strip()),
        ("x" * 200, "x" * 200),
    ],
)
def test_quotes_do_not_make_another_key(given, key):
    assert web.idempotency_key(connection(("Idempotency-Key", given))) == key


@pytest.mark.parametrize(
    "given", ["", " ", "two words", '"open', '""', "x" * 201, "schlüssel", '"a"b"']
)
@pytest.mark.parametrize(
    "dependency", [web.idempotency_key, web.optional_idempotency_key]
)
def test_a_malformed_key_is_refused(dependency, given):
    with pytest.raises(web.Problem) as caught:
        dependency(connection(("Idempotency-Key", given)))
    assert (caught.value.status, caught.value.kind) == (
        400,
        "idempotency-key-malformed",
    )


def test_two_keys_are_refused_and_a_missing_one_only_if_it_is_required():
    with pytest.raises(web.Problem, match="given once"):
        web.idempotency_key(connection(*[("Idempotency-Key", "k")] * 2))
    assert web.optional_idempotency_key(connection()) is None
    with pytest.raises(web.Problem, match="a new UUID") as caught:
        web.idempotency_key(connection())
    assert caught.value.kind == "idempotency-key-missing"


def test_requests_without_a_correlation_id_get_different_ones():
    first, second = web.causal_metadata(connection()), web.causal_metadata(connection())
    assert set(first) == {"correlation_id"}
    assert first != second


def test_both_ids_are_taken_from_the_headers():
    given = connection(("X-Correlation-ID", "visit-7"), ("X-Causation-ID", "event-3"))
    assert web.causal_metadata(given) == {
        "correlation_id": "visit-7",
        "causation_id": "event-3",
    }


@pytest.mark.parametrize("name", ["X-Correlation-ID", "X-Causation-ID"])
@pytest.mark.parametrize("given", [[""], ["two words"], ["x" * 201], ["a", "b"], ["ü"]])
def test_a_malformed_id_is_refused_by_its_name(name, given):
    with pytest.raises(web.Problem, match=name) as caught:
        web.causal_metadata(connection(*[(name, one) for one in given]))
    assert (caught.value.status, caught.value.kind) == (400, "header-malformed")
