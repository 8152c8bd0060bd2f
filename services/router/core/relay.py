"""The engine's answer on its way to the client: what is passed on, what is counted, what is held back to the end."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from libs.common.units import MIB
from services.router.core import http_rules, responses, sse
from services.router.core.event_forms import Form, Forms
from services.router.core.openai import Ask
from services.router.core.refusals import HttpRefusal
from services.router.core.serving import Serving
from services.router.core.several import Several
from services.router.core.surface import Api

ANSWER_BYTES_MAX: Final = 32 * MIB  # The longest answer that is not streamed, with log-probabilities.
LUCK: Final = 4  # How often a stream may teach another form than before: some begin with an event of another kind.


class StreamedAnswer:
    """A stream of events. Each event becomes an HTTP chunk of its own, so that the bill knows where its tokens end."""

    __slots__ = (
        "_ask", "_forms", "_has_reason", "_head", "_is_of_items", "_is_single", "_luck", "_serving", "_several",
        "_splitter", "_usage_event", "broken", "form", "has_begun", "is_done",
    )  # fmt: skip

    def __init__(self, ask: Ask, serving: Serving, *, head: Callable[[], bytes], forms: Forms) -> None:
        self._ask = ask
        self._serving = serving
        self._forms = forms
        self._luck = LUCK
        self.form: Form | None = None  # Of its content, once it is known: such events need not come here.
        self._head = head
        self._is_of_items = ask.api is Api.RESPONSES  # Their last event has the usage, and is the end.
        self._is_single = ask.choices == 1 and not self._is_of_items
        self._several = Several(ask.choices // ask.prompts) if ask.choices > 1 else None
        self._splitter = sse.Splitter()
        self._usage_event = b""
        self._has_reason = False
        self.has_begun = False  # Whether the client has seen anything.
        self.is_done = False  # Whether the engine said [DONE].
        self.broken = ""  # Why nothing more of it can be understood; what came before it still counts.

    @property
    def has_end(self) -> bool:
        """Whether all content came; an engine that forgets [DONE] has still said all."""
        return self.is_done or self._serving.has_final or self._has_reason

    def feed(self, data: bytes, *, at: int, now_ms: int) -> bytes:
        """What to send for ``data``, the socket's offset being ``at``; then look at `broken`."""
        out: list[bytes] = []
        try:
            for event in self._splitter.feed(data):
                piece = self._read(event)
                if piece.finish_reason:
                    self._has_reason = True
                    self._serving.finish_reason(piece.finish_reason)
                if piece.kind is sse.Kind.FINAL_USAGE:
                    self._take_final(piece)
                elif piece.kind is sse.Kind.DONE:
                    self.is_done = True
                else:
                    if not self.has_begun:
                        out.append(self._begun(piece))
                        at += len(out[-1])
                    framed = b"%x\r\n%s\r\n" % (len(piece.data), piece.data)
                    at += len(framed)
                    out.append(framed)
                    self._count(piece, at, now_ms)
                    if self._is_single and self._luck and self._serving.first_token_ms is not None:
                        self._learn(event, piece)
        except sse.BadUpstream as wrong:
            self.broken = str(wrong)
        return out[0] if len(out) == 1 else b"".join(out)

    def _learn(self, event: bytes, piece: sse.Piece) -> None:
        if self.form is not None and self.form.match(http_rules.chunk(event)) is not None:
            return
        form = self._forms.learned(event, piece, wants_usage=self._ask.wants_usage)
        self._luck -= 1
        self.form = form or self.form

    def forget(self) -> None:
        """Its engine went before the client had any of it: another's answer begins anew."""
        assert not self.has_begun, "what a client has seen can't be taken back"
        self._splitter, self._usage_event, self._has_reason = sse.Splitter(), b"", False

    def begin(self) -> bytes:
        """The head of the answer, before its first content; nothing later."""
        if self.has_begun:
            return b""
        self.has_begun, head = True, self._head
        del self._head  # Nor is what it was made of needed again.
        return head()

    def cut(self, refusal: HttpRefusal) -> bytes:
        """What tells a client that has begun to read why no more comes."""
        return http_rules.chunk(b"data: " + refusal.body() + b"\n\n")

    def terminal_frame(self) -> bytes:
        """What ends the answer; to be sent only when the bill is durable."""
        done = b"" if self._is_of_items else sse.DONE
        frames = [http_rules.chunk(each) for each in (self._usage_event, done) if each]
        return b"".join(frames) + http_rules.LAST_CHUNK

    def _begun(self, piece: sse.Piece) -> bytes:
        """The head, with what the first content says of the cache."""
        self._note_cached(piece)
        return self.begin()

    def _note_cached(self, piece: sse.Piece) -> None:
        if piece.usage is not None and piece.usage.cached_tokens is not None:
            self._serving.cached_tokens = piece.usage.cached_tokens

    def _read(self, event: bytes) -> sse.Piece:
        if self._is_of_items:
            return responses.read_event(event)
        ask = self._ask
        return sse.read_event(event, wants_usage=ask.wants_usage, wants_running_usage=ask.wants_running_usage)

    def _take_final(self, piece: sse.Piece) -> None:
        self.form = None  # The last word's counts stand.
        assert piece.usage is not None, "a last word has counts"
        self._serving.final(piece.usage)
        if self._ask.wants_usage or self._is_of_items:
            self._usage_event = piece.data
        self.is_done = self.is_done or self._is_of_items

    def _count(self, piece: sse.Piece, end: int, now_ms: int) -> None:
        usage, running, prompt_tokens = piece.usage, None, None
        if usage is not None:
            running, prompt_tokens = usage.completion_tokens, usage.prompt_tokens
            if self._several is not None:
                running, prompt_tokens = self._several.add(piece, usage)
            if usage.prompt_tokens_details is not None:
                self._note_cached(piece)
        form = self.form
        if form is not None and prompt_tokens is not None and form.prompt != b"%d" % prompt_tokens:
            self.form = None  # Who knows events by it takes this count for the one that is known.
        self._serving.relayed(end, pieces=piece.pieces, running=running, prompt_tokens=prompt_tokens, now_ms=now_ms)


class StreamedSound:
    """Sound as the engine makes it: each piece is passed on at once, and nothing of it is counted."""

    __slots__ = ("_head", "_serving", "broken", "form", "has_end", "is_done")

    def __init__(self, _ask: Ask, serving: Serving, *, head: Callable[[], bytes], forms: Forms) -> None:
        del forms
        self.form: Form | None = None  # Sound has none.
        self._head = head
        self._serving = serving
        self.has_end = False  # Whether anything came; that all of it did, HTTP says.
        self.is_done = False
        self.broken = ""

    def feed(self, data: bytes, *, at: int, now_ms: int) -> bytes:
        """What to send for ``data``."""
        del at, now_ms
        return self.begin() + http_rules.chunk(data)

    def forget(self) -> None:
        """Its engine went before the client had any of it."""

    def begin(self) -> bytes:
        """The head of the answer, before its first piece; nothing later."""
        if self.has_end:
            return b""
        self.has_end = True
        self._serving.final(sse.Usage(None, 0))
        return self._head()

    def cut(self, _refusal: HttpRefusal) -> bytes:
        """Nothing: words are no sound. That the end is missing tells the client."""
        return b""

    def terminal_frame(self) -> bytes:
        """What ends the answer; to be sent only when the bill is durable."""
        return http_rules.LAST_CHUNK


class WholeAnswer:
    """An answer that is not streamed: kept until it is whole and billed."""

    __slots__ = ("_parts", "size_bytes")

    def __init__(self) -> None:
        self._parts: list[bytes] = []
        self.size_bytes = 0

    def feed(self, data: bytes) -> None:
        """Keep more of it. Raises BadUpstream if it grows beyond what we keep."""
        self.size_bytes += len(data)
        if self.size_bytes > ANSWER_BYTES_MAX:
            raise sse.BadUpstream("the engine's answer is larger than we read")
        self._parts.append(data)

    def body(self) -> bytes:
        """All of it."""
        return b"".join(self._parts)
