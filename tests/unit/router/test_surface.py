"""Calls beyond chat: what of them is read, what the engine reads, what its answers say of the bill."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from libs.common.errors import Invalid
from libs.common.events.runtime import Replica
from libs.common.ids import SystemEntropy
from services.router.core import isolation, models, openai, sse
from services.router.core.answers import read_answer
from services.router.core.event_forms import Forms
from services.router.core.hosts import endpoint_of
from services.router.core.openai import Ask
from services.router.core.refusals import HttpRefusal
from services.router.core.relay import StreamedAnswer
from services.router.core.serving import Finish, Serving
from services.router.core.surface import DEPTH_MAX, INPUTS_MAX, Api, surfaces_of
from services.router.shell.engines.table import RouteTable
from services.router.shell.workers.secret import kept_secret
from tests.unit.router.heard import NOW
from tests.unit.router.scene import ENDPOINT, NAME, PROJECT, TENANT, a_route
from tests.unit.router.test_relay import unchunked
from tests.unit.router.test_serving import a_serving


def asked(api: Api, host: str = "", **fields: object) -> Ask:
    return openai.read(api, json.dumps(fields).encode(), host=host)


def engine_reads(ask: Ask, *, cache_salt: str = "") -> dict[str, object]:
    body: dict[str, object] = json.loads(openai.upstream_body(ask, engine_model="m", cache_salt=cache_salt))
    return body


def test_an_adapter_is_named_behind_its_endpoint_and_is_what_the_engine_is_asked_for() -> None:
    ask = asked(Api.EMBEDDINGS, model=f"{NAME}/legal", input="x")

    assert (ask.endpoint, ask.adapter) == (NAME, "legal")
    assert engine_reads(ask) == {"model": "legal", "input": "x"}


def test_the_address_names_the_endpoint_where_the_body_does_not() -> None:
    assert asked(Api.EMBEDDINGS, NAME, input="x").endpoint == NAME
    assert asked(Api.EMBEDDINGS, NAME, model=f"{NAME}/legal", input="x").adapter == "legal"
    with pytest.raises(HttpRefusal) as other:
        asked(Api.EMBEDDINGS, NAME, model="another", input="x")
    with pytest.raises(HttpRefusal) as neither:
        asked(Api.EMBEDDINGS, input="x")

    assert (other.value.status, other.value.error_code) == (404, "model_not_found")
    assert (neither.value.status, neither.value.param) == (400, "model")


@pytest.mark.parametrize(
    ("host", "endpoint"),
    [
        ("chatty.models.example", "chatty"), ("Chatty.Models.Example:8800", "chatty"), ("models.example", ""),
        ("a.chatty.models.example", ""), ("chatty.models.example.evil", ""), ("127.0.0.1:8800", ""), ("chatty", ""),
    ],
)  # fmt: skip
def test_an_address_below_the_domain_names_an_endpoint(host: str, endpoint: str) -> None:
    assert endpoint_of(host, "models.example") == endpoint
    assert endpoint_of(host, "") == ""


def test_the_salt_is_written_by_us_alone_and_tells_tenants_apart() -> None:
    secret, salt = b"s" * 32, isolation.cache_salt
    ask = asked(Api.RESPONSES, model=NAME, input="x", stream=True)

    assert engine_reads(ask, cache_salt="a")["cache_salt"] == "a"
    assert len({salt(secret, "ten-a"), salt(secret, "ten-b"), salt(b"t" * 32, "ten-a")}) == 3
    assert "ten-a" not in salt(secret, "ten-a")


def test_a_route_carries_the_salt_of_its_tenant() -> None:
    table = RouteTable(lambda tenant_id: f"salt of {tenant_id}")
    table.change(ENDPOINT, a_route(["http://a:1"]).model_dump_json().encode())

    assert [each.cache_salt for each in table.targets()] == [f"salt of {TENANT}"]


def test_the_secret_is_made_once_and_readable_by_nobody_else(tmp_path: Path) -> None:
    path = tmp_path / "salt"

    first = kept_secret(str(path), SystemEntropy())

    assert kept_secret(str(path), SystemEntropy()) == first
    assert path.stat().st_mode & 0o077 == 0
    assert [each.name for each in tmp_path.iterdir()] == ["salt"]
    path.write_bytes(b"short")
    with pytest.raises(Invalid):
        kept_secret(str(path), SystemEntropy())


def test_an_engine_never_keeps_a_response() -> None:
    body = engine_reads(asked(Api.RESPONSES, model=NAME, input="x", store=True, stream=True))

    assert body == {"model": "m", "input": "x", "store": False, "stream": True}


def test_what_a_request_may_use_is_known_for_every_call() -> None:
    assert asked(Api.EMBEDDINGS, model=NAME, input="x" * 400).reservation == 101
    assert asked(Api.RESPONSES, model=NAME, input="x" * 398, max_output_tokens=9).reservation == 110
    several: dict[str, Any] = {"prompt": ["x" * 40, "x" * 40, [1, 2]], "n": 2, "max_tokens": 20}
    assert asked(Api.COMPLETIONS, model=NAME, **several).choices == 6
    assert asked(Api.COMPLETIONS, model=NAME, **several).reservation == 1 + 24 + 6 * 20
    assert asked(Api.COMPLETIONS, model=NAME, prompt=[1, 2, 3], max_tokens=20).choices == 1


@pytest.mark.parametrize("care", [{}, {"logit_bias": {}}], ids=["plain", "with care"])
def test_an_engine_is_given_the_bound_that_we_count_on_and_no_other(care: dict[str, Any]) -> None:
    chat: dict[str, Any] = {"model": NAME, "messages": [{"role": "user", "content": "x"}], **care}
    both = asked(Api.CHAT, **chat, max_tokens=100_000, max_completion_tokens=2)
    old = asked(Api.CHAT, **chat, max_tokens=2, max_completion_tokens=None)

    assert both.most == old.most == 2
    assert "max_tokens" not in engine_reads(both)
    assert engine_reads(both)["max_completion_tokens"] == 2
    assert engine_reads(old)["max_tokens"] == 2


@pytest.mark.parametrize("prompt", [[], ["x"] * (INPUTS_MAX + 1)], ids=["none", "too many"])
def test_a_request_has_a_prompt_and_only_so_many(prompt: list[str]) -> None:
    with pytest.raises(HttpRefusal) as refused:
        asked(Api.COMPLETIONS, model=NAME, prompt=prompt)

    assert (refused.value.status, refused.value.param) == (400, "prompt")
    assert asked(Api.COMPLETIONS, model=NAME, prompt=[5] * (INPUTS_MAX + 1)).prompts == 1


@pytest.mark.parametrize("value", [b"1e400", b"7", b"null", b"[]", b'"x"'])
def test_what_has_no_meaning_for_an_engine_need_not_be_right(value: bytes) -> None:
    dropped = b'"service_tier":%s,"prompt_cache_key":%s,"metadata":%s' % (value, value, value)
    ask = openai.read(Api.CHAT, b'{"model":"m","messages":[{"role":"user","content":"a"}],%s}' % dropped)

    assert (ask.is_batch, ask.session) == (False, "x" if value == b'"x"' else "")
    assert set(ask.rest) == {"messages"}


def test_the_catalogue_says_which_calls_a_model_answers() -> None:
    assert surfaces_of(()) == {Api.CHAT, Api.COMPLETIONS}
    assert surfaces_of(("embeddings", "telepathy")) == {Api.EMBEDDINGS}


def test_adapters_are_listed_and_found_under_their_names() -> None:
    replicas = (Replica(name="a", url="http://a:1", adapters=("legal",)), Replica(name="b", url="http://b:1"))
    entry = a_route([]).model_copy(update={"replicas": replicas})

    listed = json.loads(models.models_body([entry]))

    assert [each["id"] for each in listed["data"]] == [NAME, f"{NAME}/legal"]
    assert json.loads(models.model_body(entry, f"{NAME}/legal"))["id"] == f"{NAME}/legal"
    with pytest.raises(HttpRefusal):
        models.model_body(entry, f"{NAME}/other")
    with pytest.raises(HttpRefusal):
        models.model_body(entry.model_copy(update={"paused": True}), NAME)


def test_a_request_for_an_adapter_goes_to_a_replica_that_has_it() -> None:
    table = RouteTable()
    replicas = (Replica(name="a", url="http://a:1"), Replica(name="b", url="http://b:1", adapters=("legal",)))
    table.change(ENDPOINT, a_route([]).model_copy(update={"replicas": replicas}).model_dump_json().encode())
    [target] = table.targets()

    assert target.has_adapter("legal")
    assert {target.choose(adapter="legal").name for _ in range(9)} == {"b"}  # type: ignore[union-attr]
    assert table.find(tenant_id=TENANT, project_id=PROJECT, name=NAME) is not None


def item_event(kind: str, **fields: object) -> bytes:
    return f"event: {kind}\ndata: {json.dumps({'type': kind, **fields})}\n\n".encode()


USAGE = {
    "input_tokens": 5, "output_tokens": 2, "input_tokens_details": {"cached_tokens": 4},
    "output_tokens_details": {"reasoning_tokens": 1}, "total_tokens": 7,
}  # fmt: skip
LAST = item_event("response.incomplete", response={"status": "incomplete", "usage": USAGE})
ITEMS = (
    item_event("response.created", response={"status": "in_progress", "usage": None})
    + item_event("response.output_text.delta", delta="data: [DONE]\n\n")
    + item_event("response.output_text.delta", delta="b")
    + item_event("response.output_text.done", text="b")
)
BARE = Ask(Api.RESPONSES, NAME, True, False, False, {}, NAME, "")


def relayed(cuts: list[int], stream: bytes) -> tuple[bytes, StreamedAnswer, Serving]:
    serving = a_serving()
    answer = StreamedAnswer(BARE, serving, head=lambda: b"HEAD", forms=Forms())
    out = b""
    for begin, end in pairwise([0, *sorted(cuts), len(stream)]):
        out += answer.feed(stream[begin:end], at=len(out), now_ms=NOW)
    return out, answer, serving


@given(st.lists(st.integers(0, len(ITEMS + LAST)), max_size=20))
def test_items_pass_as_they_are_and_the_last_is_held_back_for_the_bill(cuts: list[int]) -> None:
    out, answer, serving = relayed(cuts, ITEMS + LAST)

    assert unchunked(out.removeprefix(b"HEAD")) == ITEMS
    assert answer.is_done
    assert unchunked(answer.terminal_frame()) == LAST
    serving.sent(len(out), NOW)
    assert serving.delivered == 2
    assert serving.cached_tokens == 4
    row = serving.completed(NOW)
    assert (row.prompt_tokens, row.completion_tokens, row.finish) == (5, 2, Finish.LENGTH)
    assert (row.cached_prompt_tokens, row.reasoning_tokens) == (4, 1)


@pytest.mark.parametrize(
    "bad",
    [b"data: {\n\n", b"data: {}\n\n", item_event("response.failed", response={}), item_event("error", message="x")],
)
def test_an_error_among_items_ends_the_stream(bad: bytes) -> None:
    _, answer, _ = relayed([], ITEMS + bad)

    assert answer.broken
    assert not answer.is_done


@pytest.mark.parametrize(
    ("api", "body", "tokens"),
    [
        (Api.EMBEDDINGS, {"data": [], "usage": {"prompt_tokens": 7, "total_tokens": 7}}, (7, 0)),
        (Api.RESPONSES, {"status": "completed", "usage": USAGE}, (5, 2)),
    ],
)
def test_whole_answers_say_their_usage(api: Api, body: dict[str, object], tokens: tuple[int, int]) -> None:
    usage, _ = read_answer(api, json.dumps(body).encode())

    assert (usage.prompt_tokens, usage.completion_tokens) == tokens


@pytest.mark.parametrize("api", [Api.EMBEDDINGS, Api.RESPONSES])
@pytest.mark.parametrize("body", [b"{}", b"[]", b'{"data":[]}', b'{"status":"failed","usage":{"output_tokens":1}}'])
def test_what_can_not_be_billed_is_not_given(api: Api, body: bytes) -> None:
    with pytest.raises(sse.BadUpstream):
        read_answer(api, body)


@given(st.text(alphabet='[]{}"\\a', max_size=30), st.integers(0, 40))
def test_only_what_is_nested_too_deep_is_refused_whatever_strings_hold(text: str, depth: int) -> None:
    said: object = [text, {text: [text] * 40}]
    for _ in range(depth):
        said = [said, text]
    body = json.dumps({"model": NAME, "messages": [], "tools": said}).encode()

    with pytest.raises(HttpRefusal) as refused:
        openai.read(Api.CHAT, body)

    assert ("nested deeper" in str(refused.value)) is (depth + 4 > DEPTH_MAX)
