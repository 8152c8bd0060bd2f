"""Doing what is asked under a key once: begin, do, remember the answer, give it again."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

from libs.common.clock import Clock
from libs.common.errors import MillraceError, Unavailable
from libs.common.events.envelope import Envelope
from libs.common.events.event import Internal
from libs.common.ids import Entropy, event_id
from libs.common.runner import Runner
from services.endpoint_api.core.requests import Request, RequestAnswered, RequestBegun, RequestDropped
from services.endpoint_api.shell.doors.answer import Answer, Told


@dataclass(frozen=True, slots=True)
class Turn:
    """The right to do what was asked, until the lease is over."""

    record: str
    digest: str
    token: str


class Once:
    """Remembers the answers to what was asked under a key. All raise Unavailable for a lost store."""

    def __init__(self, requests: Runner[Request], clock: Clock, entropy: Entropy) -> None:
        self._requests = requests
        self._clock = clock
        self._entropy = entropy

    def begin(self, record: str, digest: str) -> Turn | Answer:
        """The turn to do it, or the answer that was given before.

        Raises Reused if the record is of another digest, InFlight while somebody else has the turn.
        """
        turn = Turn(record, digest, self._entropy.token_bytes(8).hex())
        known = self._take(turn, RequestBegun(digest=digest, token=turn.token))
        return _answer(known) if known.is_answered else turn

    def answer(self, turn: Turn, answer: Answer, *, told: Told | None = None) -> Answer:
        """Remember ``answer``; the one to give. Another was faster: theirs. ``told`` is what the bus hears, once."""
        event = told(answer) if told else None
        news = RequestAnswered(
            digest=turn.digest, status=answer.status, body=answer.body, location=answer.location, etag=answer.etag,
            told=event, about=answer.about or (event.command_id if event else ""),
        )  # fmt: skip
        kept = self._take(turn, news)
        return _answer(kept) if kept.is_answered and kept.digest == turn.digest else answer

    def drop(self, turn: Turn) -> None:
        """It was refused: the key is as if it had never been used. What was done all the same is found by its id."""
        with suppress(Unavailable):  # Then the lease ends it.
            self._take(turn, RequestDropped(token=turn.token))

    def run(self, record: str, digest: str, act: Callable[[], Answer], *, told: Told | None = None) -> Answer:
        """The answer of ``act``, or the one that was given before. What ``act`` raises is no answer."""
        turn = self.begin(record, digest)
        if isinstance(turn, Answer):
            return turn
        try:
            answer = act()
        except MillraceError:
            self.drop(turn)
            raise
        return self.answer(turn, answer, told=told)

    def _take(self, turn: Turn, news: Internal) -> Request:
        cause = event_id(turn.record, f"{news.kind}|{turn.token}", 0)
        envelope = Envelope(cause, news, subject=turn.record, time_ms=self._clock.now_ms())
        return self._requests.take(turn.record, envelope)


def digest_of(*parts: object) -> str:
    """What was asked, as a hash of JSON values: the order of an object's keys says nothing."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def _answer(known: Request) -> Answer:
    return Answer(known.status, known.body, known.location, known.etag)
