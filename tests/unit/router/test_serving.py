"""The bill of one request: never above what was delivered, equal to it when complete, whatever the order of events."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from services.router.core.serving import (
    CHECKPOINT_MS,
    CHECKPOINT_TOKENS,
    DUE_TOKENS,
    Finish,
    Row,
    Serving,
    admit,
    owes_generated,
    whole,
)
from services.router.core.sse import CompletionDetails, PromptDetails, Usage
from tests.unit.router.heard import NOW
from tests.unit.router.scene import a_route

PROMPT = 7


def a_serving() -> Serving:
    return Serving(admit(a_route(["http://a:1"]), key_id="k", request_id="req-1", api="chat", now_ms=NOW))


def relay(serving: Serving, end: int, running: int | None, *, pieces: int = 1, now_ms: int = NOW) -> None:
    serving.relayed(end, pieces=pieces, running=running, prompt_tokens=PROMPT, now_ms=now_ms)


@dataclass
class Run:
    """A request driven by the protocol, with the row that the journal holds."""

    serving: Serving = field(default_factory=a_serving)
    row: Row = field(init=False)
    relayed: int = 0
    delivered: int = 0
    now_ms: int = NOW

    def __post_init__(self) -> None:
        self.row = self.serving.opening

    def step(self, tokens: int, taken: int, pause_ms: int) -> None:
        self.now_ms += pause_ms
        self.relayed += tokens
        relay(self.serving, self.relayed, self.relayed, now_ms=self.now_ms)
        self.delivered = max(self.delivered, self.relayed - taken)
        self.row = self.serving.sent(self.delivered, self.now_ms) or self.row


STEPS = st.lists(st.tuples(st.integers(0, 30), st.integers(0, 60), st.integers(0, 700)), max_size=40)


def marks_of(steps: list[tuple[int, int, int]]) -> set[int]:
    total, marks = 0, {0}
    for tokens, _, _ in steps:
        total += tokens
        marks.add(total)
    return marks


@given(STEPS)
def test_a_crash_at_any_time_bills_no_more_than_was_delivered(steps: list[tuple[int, int, int]]) -> None:
    run = Run()
    for step in steps:
        run.step(*step)

        assert run.row.completion_tokens <= run.delivered
        assert run.row.finish == Finish.ROUTER_CRASH


@given(STEPS)
def test_a_crash_bills_at_most_a_checkpoint_below_the_pieces_that_were_delivered(
    steps: list[tuple[int, int, int]],
) -> None:
    run = Run()
    for step in steps:
        run.step(*step)

        whole_pieces = max(mark for mark in marks_of(steps) if mark <= run.delivered)
        assert run.row.completion_tokens > whole_pieces - CHECKPOINT_TOKENS


@given(STEPS)
def test_who_looks_only_when_a_checkpoint_is_due_misses_none(steps: list[tuple[int, int, int]]) -> None:
    run = Run()
    for step in steps:
        before, due_tokens, due_ms = run.row, run.serving.due_tokens, run.serving.due_ms
        run.step(*step)

        assert run.row is before or run.serving.tokens >= due_tokens or run.now_ms >= due_ms


@given(STEPS)
def test_an_interrupted_answer_is_billed_by_the_pieces_that_left_whole(steps: list[tuple[int, int, int]]) -> None:
    run = Run()
    for step in steps:
        run.step(*step)

    bill = run.serving.interrupted(Finish.CLIENT_DISCONNECT, run.now_ms)

    assert bill.completion_tokens == max(mark for mark in marks_of(steps) if mark <= run.delivered)
    assert bill.started_ms <= (bill.first_token_ms or bill.started_ms) <= bill.ended_ms


@given(STEPS)
def test_a_complete_answer_is_billed_by_the_engines_last_word(steps: list[tuple[int, int, int]]) -> None:
    run = Run()
    for step in steps:
        run.step(*step)
    run.serving.finish_reason("length")
    run.serving.final(Usage(PROMPT, run.relayed))
    run.serving.sent(run.relayed, run.now_ms)

    bill = run.serving.completed(run.now_ms)

    assert (bill.completion_tokens, bill.prompt_tokens) == (run.relayed, PROMPT)
    assert (bill.finish, bill.token_source) == ("length", "engine_final")


def test_a_checkpoint_is_due_by_tokens_or_by_time_and_only_for_news() -> None:
    serving = a_serving()
    relay(serving, 10, DUE_TOKENS - 1)

    assert serving.sent(10, NOW) is None
    late = serving.sent(10, NOW + CHECKPOINT_MS)
    assert late is not None
    assert late.completion_tokens == DUE_TOKENS - 1
    assert serving.sent(10, NOW + 9 * CHECKPOINT_MS) is None
    relay(serving, 20, 2 * DUE_TOKENS)
    assert serving.sent(19, NOW + 9 * CHECKPOINT_MS) is None
    assert serving.sent(20, NOW + 9 * CHECKPOINT_MS) is not None


def test_pieces_count_where_the_engine_gives_no_count() -> None:
    serving = a_serving()
    for end in (1, 2, 3):
        serving.relayed(end, pieces=1, running=None, prompt_tokens=None, now_ms=NOW)
    serving.sent(2, NOW)

    bill = serving.interrupted(Finish.UPSTREAM_ERROR, NOW)

    assert (bill.completion_tokens, bill.token_source, bill.prompt_tokens) == (2, "checkpoint", None)


@pytest.mark.parametrize(
    ("policy", "finish", "tokens"),
    [
        ("generated", Finish.CLIENT_DISCONNECT, 30), ("generated", Finish.UPSTREAM_ERROR, 10),
        ("generated", Finish.DRAIN_CUT, 10), ("delivered", Finish.CLIENT_DISCONNECT, 10),
        ("unheard of", Finish.CLIENT_DISCONNECT, 10),
    ],
)  # fmt: skip
def test_who_leaves_owes_what_was_generated_where_that_is_the_policy(policy: str, finish: Finish, tokens: int) -> None:
    route = a_route([]).model_copy(update={"interrupted": policy})
    serving = Serving(
        admit(route, key_id="k", request_id="r", api="chat", now_ms=NOW), owes_generated=owes_generated(route)
    )
    for count in (10, 20, 30):
        relay(serving, count * 100, count)
    serving.sent(1500, NOW)

    assert serving.interrupted(finish, NOW).completion_tokens == tokens


def test_who_leaves_after_the_last_word_owes_what_that_says_by_that_policy() -> None:
    route = a_route([]).model_copy(update={"interrupted": "generated"})
    serving = Serving(
        admit(route, key_id="k", request_id="r", api="chat", now_ms=NOW), owes_generated=owes_generated(route)
    )
    relay(serving, 100, 10)
    serving.final(Usage(5, 12))

    bill = serving.interrupted(Finish.CLIENT_DISCONNECT, NOW)

    assert (bill.completion_tokens, bill.token_source) == (12, "engine_final")


def test_a_part_that_is_more_than_the_whole_is_left_out_of_the_bill() -> None:
    serving = a_serving()
    serving.final(Usage(5, 2, PromptDetails(6), CompletionDetails(3)))

    row = serving.completed(NOW)

    assert (row.prompt_tokens, row.completion_tokens) == (5, 2)
    assert (row.cached_prompt_tokens, row.reasoning_tokens) == (None, None)


def test_an_answer_that_came_whole_is_billed_as_a_stream_of_the_same_words_is() -> None:
    usage = Usage(5, 12, PromptDetails(3), CompletionDetails(2))
    streamed = a_serving()
    relay(streamed, 100, 12)
    streamed.finish_reason("length")
    streamed.final(usage)

    at_once = whole(a_serving().opening, usage, "length", NOW + 7, egress_bytes=100)

    assert at_once == replace(streamed.completed(NOW + 7, egress_bytes=100), first_token_ms=NOW + 7)


def test_of_a_whole_answer_too_a_part_is_never_more_than_the_whole() -> None:
    usage = Usage(5, 0, PromptDetails(6), CompletionDetails(1))

    row = whole(a_serving().opening, usage, None, NOW - 1, egress_bytes=1)

    assert (row.cached_prompt_tokens, row.reasoning_tokens, row.first_token_ms) == (None, None, None)
    assert (row.finish, row.ended_ms) == ("stop", NOW)


def test_a_request_is_billed_once() -> None:
    serving = a_serving()
    serving.interrupted(Finish.CLIENT_DISCONNECT, NOW)

    with pytest.raises(AssertionError, match="billed already"):
        serving.completed(NOW)


def test_a_clock_that_goes_back_makes_no_request_end_before_it_began() -> None:
    assert a_serving().interrupted(Finish.CLIENT_DISCONNECT, NOW - 5000).ended_ms == NOW
