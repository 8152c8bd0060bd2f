"""An event whose form is known is passed on unread, and all is as if it were read: bytes, bill, checkpoints, end."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from typing import Any, Final

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.router.core import event_forms
from services.router.core.event_forms import EVENT_BYTES_MAX, FORMS_MAX, Form, Forms, are_chunks, first_chunk_bytes
from services.router.core.http_rules import LAST_CHUNK, chunk
from services.router.core.serving import CHECKPOINT_MS
from services.router.core.sse import Piece, read_event
from services.router.shell.engines import upstream
from services.router.shell.request import streamed
from services.router.shell.request.gateway import Limits
from services.router.shell.request.shortcut import Shortcut
from tests.bench.by_hand import last
from tests.bench.peers.load import request
from tests.unit.router.a_stream import NoForms, Seen, Step, lived

PASSED: Final = request(body_bytes=300, stream=1000, usage=True)
STRIPPED: Final = request(body_bytes=300, stream=1000)
OF_LENGTH: Final = re.compile(rb"content-length: \d+\r\n\r\n(.*)", re.DOTALL)


def asking(**more: object) -> bytes:
    head, body = STRIPPED.split(b"\r\n\r\n", 1)
    said = json.dumps({**json.loads(body), **more}).encode()
    return re.sub(rb"content-length: \d+", b"content-length: %d" % len(said), head) + b"\r\n\r\n" + said


NULLED: Final = asking(stream_options={"include_usage": True})
ASKED: Final = {"passed": PASSED, "stripped": STRIPPED, "nulled": NULLED}


def event(word: str = " word", count: float = 1, *, prompt: int = 460, spaced: bool = False, **more: Any) -> bytes:
    """An event as vLLM writes it; ``more`` are fields of the choice, or instead of the event's."""
    of_all = {name: more.pop(name) for name in ("error", "choices", "usage", "id") if name in more}
    choice: dict[str, object] = {
        "index": 0,
        "delta": {"content": word},
        "logprobs": None,
        "finish_reason": None,
        **more,
    }
    usage = {"prompt_tokens": prompt, "total_tokens": 7, "completion_tokens": count}
    said: dict[str, object] = {"id": "chatcmpl-1", "object": "x", "created": 1, "model": "m/0"}
    said |= {"choices": [choice], "usage": usage}
    told = {name: value for name, value in (said | of_all).items() if value != "absent"}
    words = json.dumps(told, ensure_ascii=False, separators=None if spaced else (",", ":"))
    return b"data: %s\n\n" % words.encode("utf-8", "surrogatepass")


# What an engine may say; its text and its count are given.
KINDS: Final[dict[str, Callable[[str, int], bytes]]] = {
    "plain": event,
    "without usage": lambda text, count: event(text, count, usage="absent"),
    "usage is null": lambda text, count: event(text, count, usage=None),
    "spaced": lambda text, count: event(text, count, spaced=True),
    "of text": lambda text, count: event(text, count, delta=None, text=text),
    "thought": lambda text, count: event(text, count, delta={"reasoning_content": text}),
    "role and text": lambda text, count: event(text, count, delta={"role": "assistant", "content": text}),
    "tool": lambda text, count: event(text, count, delta={"content": text, "tool_calls": [{"f": text}]}),
    "log-probabilities": lambda text, count: event(text, count, logprobs={"content": [{"token": text}]}),
    "a reason": lambda text, count: event(text, count, finish_reason="length"),
    "a reason and no text": lambda _text, count: event("", count, finish_reason="stop"),
    "no text": lambda _text, count: event("", count),
    "details": lambda _text, count: event(usage={
        "prompt_tokens": 460, "completion_tokens": count, "prompt_tokens_details": {"cached_tokens": 9},
    }),
    "another prompt": lambda text, count: event(text, count, prompt=461),
    "fewer": lambda text, count: event(text, max(0, count - 5)),
    "too many": lambda text, _count: event(text, 100_000_001),
    "a fraction": lambda text, count: event(text, count + 0.5),
    "an error": lambda text, count: event(text, count, error={"message": text}),
    "two choices": lambda text, count: event(
        text, count, choices=[{"index": each, "delta": {"content": text}} for each in (0, 1)]
    ),
    "no choices": lambda text, count: event(text, count, choices=[]),
    "a comment": lambda _text, _count: b": ping\n\n",
    "windows": lambda text, count: event(text, count).replace(b"\n\n", b"\r\n\r\n"),
    "named": lambda text, count: b"event: message\n" + event(text, count),
    "with a name behind": lambda text, count: event(text, count)[:-1] + b"event: message\n\n",
    "in two lines": lambda text, count: event(text, count).replace(b',"usage"', b'\ndata: ,"usage"'),
    "no space": lambda text, count: event(text, count).replace(b"data: ", b"data:"),
    "large": lambda text, count: event(text * 400, count),
    "not UTF-8": lambda text, count: event(text, count).replace(b'"}', b'\xff"}', 1),
    "half a pair": lambda _text, count: event("\ud800", count),
    "escaped": lambda _text, count: event("%", count).replace(b"%", rb"\ud83d\n"),
    "a control character": lambda _text, count: event("%", count).replace(b"%", b"\x01"),
    "said twice": lambda text, count: event(text, count).replace(b'"delta"', b'"finish_reason":"stop","delta"'),
    "nonsense": lambda _text, _count: b"data: {{{\n\n",
    "done": lambda _text, _count: b"data: [DONE]\n\n",
}  # fmt: skip
FRAMES: Final[dict[str, Callable[[bytes], list[bytes]]]] = {
    "lower": lambda data: [chunk(data)],
    "upper": lambda data: [b"%X\r\n%s\r\n" % (len(data), data)],
    "zero": lambda data: [b"0" + chunk(data)],
    "named": lambda data: [b"%x;a=b\r\n%s\r\n" % (len(data), data)],
    "halves": lambda data: [chunk(data[:40]), chunk(data[40:])],
    "half": lambda data: [chunk(data[:40])],
    "doubled": lambda data: [chunk(data + data)],
    "one of another": lambda data: [chunk(b": " + chunk(data))],
}
USUAL: Final = ("plain",) * 6 + ("without usage", "thought", "no text")
WORDS: Final = (" word", "é", "汉字", "😀", "\n", 'a "quoted" \\ one', "{}[],:", "\x7f")
TEXTS: Final = st.sampled_from(WORDS) | st.text(max_size=6)
EVENTS: Final = st.lists(
    st.tuples(
        st.sampled_from(USUAL) | st.sampled_from(sorted(KINDS)),
        st.sampled_from(("lower",) * 8 + ("upper",) * 3 + tuple(FRAMES)),
        TEXTS,
        st.integers(0, 40),
    ),
    max_size=20,
)
TAKEN: Final = st.sampled_from((0, 1, 100, 300, 10_000, 10_000))
NEARLY_IDLE_MS: Final = int(Limits().idle_s * 600)  # Two of them, and whoever was not heard meanwhile is cut.
LATER_MS: Final = st.sampled_from((0, 0, 0, 20, CHECKPOINT_MS, NEARLY_IDLE_MS))
LASTS: Final = st.sampled_from(([], [last(99)], [LAST_CHUNK]))
ENDS: Final = ("closed", "reset", "left")


def chunks_of(events: Sequence[tuple[str, str, str, int]]) -> list[bytes]:
    out, count = [], 0
    for kind, frame, text, more in events:
        count += more
        out += FRAMES[frame](KINDS[kind](text, count))
    return out


def both(asked: str, steps: Sequence[Step], end: str, forms: Callable[[], Forms] = Forms) -> tuple[Seen, Seen]:
    return lived(ASKED[asked], steps, end, forms=forms), lived(ASKED[asked], steps, end, forms=NoForms)


@settings(max_examples=50)
@given(st.sampled_from(sorted(ASKED)), EVENTS, st.booleans(), st.data(), st.sampled_from(ENDS))
def test_a_stream_whose_form_is_known_is_what_it_is_read_with_care(
    asked: str, events: list[tuple[str, str, str, int]], is_cut: bool, data: st.DataObject, end: str
) -> None:
    reads = [*chunks_of(events), *data.draw(LASTS)]
    if is_cut:
        said = b"".join(reads)
        cuts = sorted(data.draw(st.lists(st.integers(0, len(said)), max_size=12)))
        reads = [said[begin:end] for begin, end in pairwise([0, *cuts, len(said)]) if end > begin]
    steps = [Step(each, data.draw(TAKEN), data.draw(LATER_MS)) for each in reads]

    found, expected = both(asked, steps, end)

    assert found == expected


# Streams that tell: with a fault below, at least one of them is another than it is read with care.
def stream(*events: bytes, begun: int = 3) -> list[bytes]:
    """HTTP chunks: of content that teaches the form, then of these events."""
    return [chunk(each) for each in (*(event(count=number) for number in range(1, begun + 1)), *events)]


MANY: Final = [event(count=number) for number in range(4, 120)]
HIDDEN: Final = chunk(b": " + b"x" * 60 + b"\n\n" + chunk(event(count=9)))  # A chunk in a chunk: no event at all.
TELLING: Final[dict[str, list[bytes]]] = {
    "a stream": [*stream(*MANY), last(99)],
    "a reason": [*stream(event(count=4), event(count=5, finish_reason="length")), LAST_CHUNK],
    "an error": stream(event(count=4, error={"message": "canary"})),
    "many tokens an event": stream(event(count=60), event(count=61), event(count=130), event(count=131)),
    "another prompt": stream(event(count=4, prompt=1), event(count=5, prompt=9)),
    "no text": stream(event("", 4), event(count=5)) + stream(event("", usage="absent"), begun=0),
    "no text to count": [chunk(event(text, usage="absent")) for text in ("a", "b", "c", "", "d", "")],
    "not UTF-8": stream(event("%", 4).replace(b"%", b"\xc3"), event(count=5)),
    "a control character": stream(event("%", 4).replace(b"%", b"\x01"), event(count=5)),
    "half a pair": stream(event("%", 4).replace(b"%", rb"\ud800"), event(count=5)),
    "too many": stream(event(count=100_000_001), event(count=5)),
    "in a chunk": [*stream(event(count=4)), HIDDEN[:69], HIDDEN[69:-2], HIDDEN[-2:], *stream(event(count=5))],
    "doubled": [first + second for first, second in pairwise(stream(*MANY[:40]))][::2],
    "in pieces": [part for each in stream(*MANY[:9]) for part in (each[:90], each[90:])],
    "half an event": [*stream(), chunk(event(count=4)[:50]), *stream(event(count=9))],
    "a wrong size": [*stream(), chunk(event(count=4)).replace(b"\r\n", b"0\r\n", 1), chunk(event(count=5))],
}  # fmt: skip


def telling(forms: Callable[[], Forms] = Forms) -> Iterator[str]:
    """Which of the telling streams are not what they are when they are read with care."""
    for name, reads in TELLING.items():
        steps = [Step(each, taken, later_ms=30) for each, taken in zip(reads, (100, 10_000) * 99, strict=False)]
        for asked in ASKED:
            familiar, careful = both(asked, steps, "closed" if name == "a reason" else "reset", forms)
            if familiar != careful:
                yield f"{name}, {asked}"


def test_streams_that_tell_a_fault_tell_none() -> None:
    assert list(telling()) == []


def with_fault(said: bytes, instead: bytes) -> Callable[[], Forms]:
    """Forms whose expression has something else in place of what it should have."""

    class Faulty(Forms):
        def learned(self, event: bytes, piece: Piece, *, wants_usage: bool) -> Form | None:
            form = super().learned(event, piece, wants_usage=wants_usage)
            if form is None:
                return None
            pattern = form.match.__self__.pattern  # type: ignore[attr-defined]
            match = re.compile(pattern.replace(said, instead)).fullmatch
            found = match(chunk(event))
            assert found is not None
            return Form(match, found[3], form.instead)

    return Faulty


EXPRESSIONS: Final[dict[str, tuple[bytes, bytes]]] = {
    "does not read why it ends": (b'"finish_reason":null', b'"finish_reason":(?:null|"[a-z]+")'),
    "does not read the count": (b'"completion_tokens":([1-9][0-9]{0,7})', b'"completion_tokens":[0-9]+()'),
    "reads any count": (b'"completion_tokens":([1-9][0-9]{0,7})', b'"completion_tokens":([0-9]+)'),
    "does not read the prompt's count": (b'"prompt_tokens":([1-9][0-9]{0,7})', b'"prompt_tokens":()[0-9]+'),
    "takes no text for text": (b'+"|', b'*"|'),
    "takes anything for text": (event_forms._TEXT, b'"[^"]+"'),
    "takes halves of a pair for text": (rb'\\["\\/bfnrt]', rb'\\(?:["\\/bfnrt]|u[0-9a-f]{4})'),
    "does not look behind the counts": (rb"\}\}" + b"\\\n\\\n", rb".*\}" + b"\\\n\\\n"),
}  # fmt: skip


@pytest.mark.parametrize("fault", EXPRESSIONS)
def test_a_form_with_a_fault_is_told(fault: str) -> None:
    said, instead = EXPRESSIONS[fault]

    assert any(telling(with_fault(said, instead)))


class Hasty(Shortcut):
    """Says that all is delivered that was written."""

    def take(self, data: bytes) -> bool:
        took = super().take(data)
        self._serving.delivered = self._serving.tokens
        return took


class Forgetful(Shortcut):
    """Writes no checkpoint."""

    def take(self, data: bytes) -> bool:
        self._serving.due_tokens, self._serving.due_ms = 10_000, 2**62
        return super().take(data)


class Loose(Shortcut):
    """Believes the size that a chunk says."""

    def take(self, data: bytes) -> bool:
        end = data.find(b"\r\n")
        return super().take(b"%x" % (len(data) - end - 4) + data[end:])


@pytest.mark.parametrize("fault", [Hasty, Forgetful, Loose])
def test_a_shortcut_with_a_fault_is_told(fault: type[Shortcut], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streamed, "Shortcut", fault)

    assert any(telling())


def test_that_a_parser_is_within_a_chunk_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(upstream, "are_chunks", lambda _data, _body: True)

    assert "in a chunk, stripped" in telling()


@pytest.mark.parametrize("asked", ASKED)
def test_of_a_stream_only_the_first_event_and_the_end_are_parsed(asked: str) -> None:
    seen = lived(ASKED[asked], [Step(each) for each in TELLING["a stream"]], "closed")

    assert seen.parsed == len(("head", "first event", "end"))


def test_another_stream_of_the_endpoint_begins_with_what_the_first_one_taught() -> None:
    forms = Forms()
    for _ in range(2):
        lived(STRIPPED, [Step(each) for each in TELLING["a stream"]], "closed", forms=lambda: forms)

    assert (len(forms._cut), len(forms._known)) == (1, 0)


def test_chunks_that_come_together_are_taken_apart() -> None:
    seen = lived(PASSED, [Step(each) for each in TELLING["doubled"]], "closed")

    assert seen.parsed == len(("head", "first two events"))


def test_an_engine_whose_events_are_never_alike_teaches_no_more_than_so_many_forms() -> None:
    forms = Forms()
    for number in range(FORMS_MAX + 5):
        more: dict[str, Any] = {f"field_{'x' * number}": None}
        said = event(**more)
        forms.learned(said, read_event(said, wants_usage=False, wants_running_usage=True), wants_usage=False)

    assert len(forms._known) == FORMS_MAX


@pytest.mark.parametrize("text", ["a", "é", "汉字", "😀", "\n", '"', "\\", "/\b\f\r\t"])
def test_whatever_an_engine_writes_of_text_is_known(text: str) -> None:
    seen = lived(STRIPPED, [Step(each) for each in stream(event(text, 4), event(text, 5))], "closed")

    assert seen.parsed == len(("head", "first event"))
    assert json.dumps(text, ensure_ascii=False).encode() in seen.out


@given(st.integers(7, EVENT_BYTES_MAX), st.sampled_from((b"%x", b"%X")), st.binary(max_size=3))
def test_the_length_of_a_chunk_is_read_from_its_size(size: int, spelling: bytes, more: bytes) -> None:
    body = b"data:%s\n\n" % (b"x" * (size - 7))
    data = spelling % size + b"\r\n" + body + b"\r\n"

    assert first_chunk_bytes(data + more) == len(data)
    assert are_chunks(data, body)
    assert not are_chunks(b"0" + data, body)
    assert not are_chunks(data + b"1", body)


def test_a_checkpoint_comes_by_the_clock_though_no_more_is_said() -> None:
    steps = [Step(each) for each in stream()] + [Step(b"1", later_ms=CHECKPOINT_MS), Step(b"f")]

    seen = lived(PASSED, steps, "reset")

    assert [(kind, row.completion_tokens) for kind, row in seen.told] == [("checkpoint", 3), ("finish", 3)]
