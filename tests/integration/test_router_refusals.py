"""Every refusal of the data plane, by a table: OpenAI's exact error, a counter, nothing hung, no request to an engine.

That the table is whole is checked against the refusals that there are.
"""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable
from dataclasses import dataclass, field

import pytest

from libs.common import keys
from libs.common.events.endpoint import Limits as EndpointLimits
from libs.common.ids import SystemEntropy
from libs.common.units import KIB
from services.router.core import refusals
from services.router.core.relay import ANSWER_BYTES_MAX
from services.router.core.room import ALL_BYTES_MAX, UNCOUNTED_BYTES
from tests.unit.router.engine import Engine, running
from tests.unit.router.scene import (
    ENDPOINT,
    FAST,
    HEALTH,
    NAME,
    OTHER_KEY,
    TENANT,
    Scene,
    a_request,
    a_scene,
    ask,
    chat_body,
    key_entry,
    refused_count,
)  # fmt: skip

READ_ONLY = keys.mint(SystemEntropy())


@dataclass(frozen=True)
class Case:
    """One way to be refused."""

    by: Callable[..., refusals.HttpRefusal]
    request: bytes
    status: int
    code: str | None
    param: str | None = None
    kind: str = "invalid_request_error"
    retry_after: bool = False
    before: Callable[[Scene], object] = field(default=lambda _scene: None)
    engine: Engine = field(default_factory=Engine)
    reaches_engine: bool = False
    closes: bool = False  # Judged by its head: the body is not read, so the connection can't be used again.


def route(scene: Scene, **more: object) -> None:
    known = scene.table.held(ENDPOINT)
    assert known is not None
    scene.table.change(ENDPOINT, known.model_copy(update=more).model_dump_json().encode())


def exhaust(scene: Scene) -> None:
    route(scene, limits=EndpointLimits(requests_per_minute=1))
    target = scene.table.targets()[0]
    scene.gateway.limiter.reserve(
        scene.gateway.quotas.limits_for(target.entry), tokens=1, now_ms=round(scene.gateway.now_s() * 1000)
    )


def learn_read_only(scene: Scene) -> None:
    entry = key_entry(READ_ONLY, scopes=("read",))
    scene.gateway.keyring.change(entry.key_id, entry)


def post(path: str, **fields: object) -> bytes:
    return a_request(json.dumps(fields).encode(), path=path)


CASES = {
    "no key": Case(refusals.invalid_key, a_request(chat_body(), key=""), 401, "invalid_api_key", closes=True),
    "a key that may only read": Case(
        refusals.scope_missing,
        a_request(chat_body(), key=READ_ONLY.plaintext), 403, "insufficient_scope",
        before=learn_read_only, closes=True),
    "an unknown model": Case(refusals.model_not_found, a_request(chat_body(model="")), 404, "model_not_found", "model"),
    "somebody else's model": Case(
        refusals.model_not_found, a_request(chat_body(), key=OTHER_KEY.plaintext), 404, "model_not_found", "model"
    ),
    "an unknown adapter": Case(
        refusals.model_not_found, a_request(chat_body(model=f"{NAME}/nobody")), 404, "model_not_found", "model"
    ),
    "a call that the model has not got": Case(
        refusals.not_of_this_model, post("/v1/embeddings", model=NAME, input="x"), 404, None, "model"
    ),
    "an unknown address": Case(refusals.unknown_url, post("/v1/images", model=NAME), 404, None, closes=True),
    "another method": Case(
        refusals.wrong_method, a_request(b"", path="/v1/models"), 405, "method_not_supported", closes=True),
    "no replica": Case(
        refusals.no_replica, a_request(chat_body()), 503, "no_replica", kind="server_error", retry_after=True,
        before=lambda scene: route(scene, replicas=()),
    ),
    "a paused endpoint": Case(
        refusals.endpoint_paused, a_request(chat_body()), 503, "endpoint_paused", "model", kind="server_error",
        before=lambda scene: route(scene, paused=True),
    ),
    "beyond a limit": Case(
        refusals.rate_limited, a_request(chat_body()), 429, "rate_limit_exceeded", kind="requests", retry_after=True,
        before=exhaust,
    ),
    "bodies of a tenant beyond its part": Case(
        refusals.too_large_at_once, a_request(chat_body(user="u" * UNCOUNTED_BYTES)), 429, "rate_limit_exceeded",
        kind="concurrency", retry_after=True, before=lambda scene: scene.gateway.room.take(TENANT, ALL_BYTES_MAX // 2),
    ),
    "an answer that is too large": Case(
        refusals.answer_too_large, a_request(chat_body()), 400, "answer_too_large",
        engine=Engine(tokens=ANSWER_BYTES_MAX // KIB, text="x" * KIB), reaches_engine=True,
    ),
    "an engine that fails": Case(
        refusals.upstream_failed, a_request(chat_body()), 502, "upstream_error", kind="server_error", retry_after=True,
        engine=Engine(status=500), reaches_engine=True,
    ),
    "an engine that is silent": Case(
        refusals.upstream_timeout, a_request(chat_body(stream=True)), 504, "timeout", kind="server_error",
        engine=Engine(first_delay_s=20), reaches_engine=True,
    ),
    "a field that there is not": Case(
        refusals.HttpRefusal, a_request(chat_body(cache_salt="x")), 400, None, "cache_salt"
    ),
    "a tool that is none": Case(
        refusals.HttpRefusal, a_request(chat_body(tools=[{"type": "mcp"}])), 400, None, "tools[0].type"
    ),
    "an engine's own refusal": Case(
        refusals.HttpRefusal, a_request(chat_body()), 400, None, engine=Engine(status=400), reaches_engine=True
    ),
    "responses that an engine should keep": Case(
        refusals.HttpRefusal, post("/v1/responses", model=NAME, input="x", background=True), 400, None, "background"
    ),
    "responses of before": Case(
        refusals.HttpRefusal, post("/v1/responses", model=NAME, input="x", previous_response_id="r"), 400, None,
        "previous_response_id",
    ),
    "a picture in responses": Case(
        refusals.HttpRefusal,
        post("/v1/responses", model=NAME, input=[{"role": "user", "content": [{"type": "input_image"}]}]), 400, None,
        "input[0].content[0].type",
    ),
    "a hosted tool": Case(
        refusals.HttpRefusal, post("/v1/responses", model=NAME, input="x", tools=[{"type": "web_search"}]), 400, None,
        "tools[0].type",
    ),
    "no input": Case(refusals.HttpRefusal, post("/v1/embeddings", model=NAME), 400, None, "input"),
    "too many inputs": Case(
        refusals.HttpRefusal, post("/v1/embeddings", model=NAME, input=["x"] * 2049), 400, None, "input"
    ),
}  # fmt: skip

# Refused where one table of requests can not reach: each has a test of its own, named here.
ELSEWHERE = {
    "too_large": "test_router_input: a body that grows beyond the limit",
    "overloaded": "test_router_queues",
    "busy": "test_router_crowds",
    "spread": "no refusal: says when to come back",
    "too_many_waiting": "test_router_queues",
    "too_many_at_once": "test_router_queues",
    "cannot_record": "test_router_edge: a journal that fails",
    "stopping": "test_router_edge: draining",
    "budget_spent": "test_budget_at_its_edge",
    "limits_unknown": "test_shared_limits: a holder of the lock that stands still",
}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
async def test_a_refusal_has_openais_shape_and_a_counter_and_harms_nothing(case: Case) -> None:
    code = case.code or str(case.status)
    async with running(case.engine) as engine, a_scene(engine.url, limits=FAST) as scene:
        case.before(scene)
        before = refused_count(code)

        if case.closes:
            [refused], [alive] = await ask(scene.port, case.request), await ask(scene.port, HEALTH)
        else:
            refused, alive = await ask(scene.port, case.request, HEALTH)

        assert refused.status == case.status, refused.body
        assert refused.error["code"] == case.code
        assert refused.error["param"] == case.param
        assert refused.error["type"] == case.kind
        assert refused.error["message"]
        assert ("retry-after" in refused.headers) is case.retry_after
        assert refused.headers["x-request-id"].startswith("req-")
        assert refused.headers["content-type"] == "application/json"
        assert (refused.headers.get("connection") == "close") is case.closes
        assert alive.status == 200
        assert refused_count(code) == before + 1
        assert bool(engine.requests) is case.reaches_engine
        assert scene.table.live_total() == 0


def test_the_table_has_every_refusal_that_there_is() -> None:
    there_are = {
        name for name, each in inspect.getmembers(refusals, inspect.isfunction) if each.__module__ == refusals.__name__
    }

    assert there_are - {each.by.__name__ for each in CASES.values()} - set(ELSEWHERE) == set()
