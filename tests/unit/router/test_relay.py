"""The engine's stream as the client gets it: the same however it was cut, without the usage that only we asked for."""

from __future__ import annotations

import json
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.router.core import openai, sse
from services.router.core.answers import read_answer
from services.router.core.event_forms import Forms
from services.router.core.http_rules import LAST_CHUNK
from services.router.core.openai import Ask
from services.router.core.relay import StreamedAnswer, WholeAnswer
from services.router.core.serving import Finish, Serving
from services.router.core.surface import Api
from tests.unit.router.engine import usage
from tests.unit.router.heard import NOW
from tests.unit.router.scene import chat_body
from tests.unit.router.test_serving import a_serving

TRICKY = 'a "usage":{"x":1} \\ \n\n é data: [DONE]'


def event(content: str | None, count: int, *, reason: str | None = None) -> bytes:
    delta = {} if content is None else {"content": content}
    chunk = {"id": "c", "choices": [{"index": 0, "delta": delta, "finish_reason": reason}], "usage": usage(count)}
    return b"data: " + json.dumps(chunk).encode() + b"\n\n"


FINAL = b"data: " + json.dumps({"id": "c", "choices": [], "usage": usage(3)}).encode() + b"\n\n"
STREAM = (
    b": ping\n\n" + event("", 0) + event(TRICKY, 1) + event("b", 2) + event("c", 3) + event(None, 3, reason="stop")
    + FINAL + sse.DONE
)  # fmt: skip


def an_ask(**more: object) -> Ask:
    return openai.read(Api.CHAT, chat_body(stream=True, **more))


def unchunked(data: bytes) -> bytes:
    out = b""
    while data:
        size, _, data = data.partition(b"\r\n")
        out, data = out + data[: int(size, 16)], data[int(size, 16) + 2 :]
    return out


def relayed(ask: Ask, cuts: list[int], stream: bytes = STREAM) -> tuple[bytes, StreamedAnswer, Serving]:
    serving = a_serving()
    answer = StreamedAnswer(ask, serving, head=lambda: b"HEAD", forms=Forms())
    out = b""
    for begin, end in pairwise([0, *sorted(cuts), len(stream)]):
        out += answer.feed(stream[begin:end], at=len(out), now_ms=NOW)
    return out, answer, serving


CUTS = st.lists(st.integers(0, len(STREAM)), max_size=30)
WHOLE = relayed(an_ask(), [])[0]


@given(CUTS)
def test_the_client_gets_the_same_however_the_stream_was_cut(cuts: list[int]) -> None:
    out, answer, serving = relayed(an_ask(), cuts)

    assert out == WHOLE
    assert answer.is_done
    assert serving.has_final


@given(CUTS)
def test_windows_line_ends_make_no_difference(cuts: list[int]) -> None:
    out, _, _ = relayed(an_ask(), cuts, STREAM.replace(b"\n", b"\r\n"))

    assert out == WHOLE


@given(st.integers(0, len(WHOLE)))
def test_tokens_are_delivered_when_the_last_byte_of_their_event_is(offset: int) -> None:
    out, _, serving = relayed(an_ask(), [])

    serving.sent(offset, NOW)

    seen = 0
    if offset >= len(b"HEAD"):
        events = out[4:offset].split(b"\n\n\r\n")[:-1]
        seen = sum(
            any(f'"content": {json.dumps(each)}'.encode() in one for each in (TRICKY, "b", "c")) for one in events
        )
    assert serving.delivered == seen


def test_nothing_of_our_own_questions_is_seen() -> None:
    events = [json.loads(each[6:]) for each in unchunked(WHOLE[4:]).split(b"\n\n") if each.startswith(b"data")]

    assert all("usage" not in each for each in events)
    assert events[1]["choices"][0]["delta"]["content"] == TRICKY
    assert b": ping\n\n" in WHOLE


def test_who_asks_for_running_usage_gets_the_events_as_they_were() -> None:
    ask = an_ask(stream_options={"include_usage": True, "continuous_usage_stats": True})
    out, answer, _ = relayed(ask, [])

    assert unchunked(out[4:]) + unchunked(answer.terminal_frame()[: -len(LAST_CHUNK)]) == STREAM


def test_the_last_frame_holds_usage_only_for_who_asked() -> None:
    _, plain, _ = relayed(an_ask(), [])
    _, asked, _ = relayed(an_ask(stream_options={"include_usage": True}), [])

    assert unchunked(plain.terminal_frame()[: -len(LAST_CHUNK)]) == sse.DONE
    assert unchunked(asked.terminal_frame()[: -len(LAST_CHUNK)]) == FINAL + sse.DONE


@pytest.mark.parametrize(
    "bad",
    [
        b"data: {{{\n\n",
        b'data: {"choices":5}\n\n',
        b'data: {"error":{"message":"canary"}}\n\n',
        b"x" * 2_000_000,
        b"word: c\ndata: {}\n\n",
        b'event: error\ndata: {"message":"canary"}\n\n',
    ],
)
def test_what_came_before_nonsense_still_counts(bad: bytes) -> None:
    out, answer, serving = relayed(an_ask(), [], event("a", 1) + bad + event("b", 2))
    serving.sent(len(out), NOW)

    assert answer.broken
    assert "canary" not in answer.broken + out.decode()
    assert serving.delivered == out.count(b'"content": "a"')


@pytest.mark.parametrize("cuts", [[], [len(event("a", 1))]], ids=["at once", "by itself"])
def test_an_event_whose_names_are_no_text_ends_the_stream(cuts: list[int]) -> None:
    bad = event("b", 2).replace(b'"usage"', b'"\xff": 1, "usage"')

    out, answer, serving = relayed(an_ask(), cuts, event("a", 1) + bad)
    serving.sent(len(out), NOW)

    assert answer.broken
    assert serving.delivered == 1


@pytest.mark.parametrize(
    "around",
    [
        b"event: message\n%s\n\n",
        b"id: 7\n%s\n\n",
        b": ping\n%s\n\n",
        b"%s\nretry: 3000\n\n",
        b"\n%s\n\n",
        b"%s\n: ping\n\n",
    ],
)
def test_what_an_engine_may_write_beside_its_data_is_no_reason_to_fail(around: bytes) -> None:
    line = event("a", 1).rstrip(b"\n")
    plain, _, _ = relayed(an_ask(), [], event("a", 1) * 3)

    out, answer, serving = relayed(an_ask(), [], around % line * 3)
    serving.sent(len(out), NOW)

    assert not answer.broken
    assert unchunked(out[4:]) == unchunked(plain[4:])
    assert serving.delivered == 1  # As the engine counts: it said 1 three times.


def test_an_event_without_data_is_passed_on_and_data_in_several_lines_are_one() -> None:
    name = b"event: ping\n\n"
    split = b'data: {"choices": [{"index": 0,\ndata: "delta": {"content": "a"}}]}\n\n'

    out, answer, serving = relayed(an_ask(), [], name + split)
    serving.sent(len(out), NOW)

    assert not answer.broken
    assert unchunked(out[4:]) == name + b'data: {"choices": [{"index": 0, "delta": {"content": "a"}}]}\n\n'
    assert serving.delivered == 1


@given(st.binary(max_size=300))
def test_any_bytes_are_an_event_or_a_named_refusal(data: bytes) -> None:
    _, answer, _ = relayed(an_ask(), [], data)

    assert isinstance(answer.broken, str)


@pytest.mark.parametrize("name", ["content", "reasoning", "reasoning_content", "refusal"])
def test_whatever_an_engine_calls_its_words_they_count(name: str) -> None:
    chunk = b"data: %s\n\n" % json.dumps({"choices": [{"index": 0, "delta": {name: "a"}}]}).encode()
    out, _, serving = relayed(an_ask(), [], chunk * 3)
    serving.sent(len(out), NOW)

    assert serving.interrupted(Finish.CLIENT_DISCONNECT, NOW).completion_tokens == 3


def told(index: int, count: int, prompt: int = 5) -> bytes:
    chunk = {"choices": [{"index": index, "text": "a", "delta": {"content": "a"}}]}
    said = {"prompt_tokens": prompt, "completion_tokens": count}
    return b"data: " + json.dumps({**chunk, "usage": said}).encode() + b"\n\n"


IN_TURN = [told(index, count) for count in (1, 2, 3) for index in (0, 1, 2, 3)]
ONE_AFTER_THE_OTHER = [told(index, count) for index in (0, 1, 2, 3) for count in (1, 2, 3)]
TOGETHER = [told(place % 4, place + 1) for place in range(12)]


@pytest.mark.parametrize("events", [IN_TURN, ONE_AFTER_THE_OTHER, TOGETHER], ids=["in turn", "in a row", "together"])
def test_of_several_answers_all_are_owed_whether_an_engine_counts_each_or_all_together(events: list[bytes]) -> None:
    out, _, serving = relayed(an_ask(n=4), [], b"".join(events))
    serving.sent(len(out), NOW)

    row = serving.interrupted(Finish.CLIENT_DISCONNECT, NOW)

    assert (row.prompt_tokens, row.completion_tokens) == (5, 12)


def test_of_several_prompts_all_are_owed() -> None:
    ask = openai.read(
        Api.COMPLETIONS, json.dumps({"model": "m", "prompt": ["a", "b"], "n": 2, "stream": True}).encode()
    )
    events = [told(index, 1, prompt) for index, prompt in ((0, 3), (1, 3), (2, 4), (3, 4))]
    out, _, serving = relayed(ask, [], b"".join(events))
    serving.sent(len(out), NOW)

    row = serving.interrupted(Finish.CLIENT_DISCONNECT, NOW)

    assert (row.prompt_tokens, row.completion_tokens) == (7, 4)


@pytest.mark.parametrize("count", [-1, 2**63, 10**20, 1.5, "1"])
def test_a_count_that_is_none_ends_the_stream_and_what_came_before_it_is_owed(count: object) -> None:
    last = {"choices": [], "usage": {"prompt_tokens": 5, "completion_tokens": count}}
    out, answer, serving = relayed(an_ask(), [], event("a", 1) + b"data: " + json.dumps(last).encode() + b"\n\n")
    serving.sent(len(out), NOW)

    assert answer.broken
    assert serving.interrupted(Finish.UPSTREAM_ERROR, NOW).completion_tokens == 1
    with pytest.raises(sse.BadUpstream):
        read_answer(Api.CHAT, json.dumps(last).encode())


@pytest.mark.parametrize("body", [b"", b"{}", b'{"choices":[]}', b'{"choices":[],"usage":null}', b"[" * 100_000])
def test_an_answer_that_can_not_be_billed_is_not_given(body: bytes) -> None:
    answer = WholeAnswer()
    answer.feed(body)

    with pytest.raises(sse.BadUpstream):
        read_answer(Api.CHAT, answer.body())
