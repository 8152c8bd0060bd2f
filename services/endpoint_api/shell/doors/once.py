"""An Idempotency-Key in practice: begin, do, remember the answer, give it again."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace

from libs.common.clock import Clock
from libs.common.errors import MillraceError, Unavailable
from libs.common.events.command import Command
from libs.common.events.envelope import Envelope
from libs.common.events.event import Internal
from libs.common.ids import Entropy, event_id
from libs.common.runner import Runner
from services.endpoint_api.core.admission import request_key
from services.endpoint_api.core.caller import Ask
from services.endpoint_api.core.requests import (
    Request,
    RequestAnswered,
    RequestBegun,
    RequestDropped,
    request_id,
)
from services.endpoint_api.shell.doors.answer import Answer, Told


class Once:
    """Runs what is asked under an Idempotency-Key once, and answers each repeat the same."""

    def __init__(self, requests: Runner[Request], clock: Clock, entropy: Entropy) -> None:
        self._requests = requests
        self._clock = clock
        self._entropy = entropy

    def run(self, ask: Ask, command: Command, act: Callable[[Ask], Answer], *, told: Told | None = None) -> Answer:
        """The answer of ``act``, or the one that was given before. ``told`` is what the bus hears of it, once.

        Raises Reused, InFlight, and what ``act`` raises: an error leaves the key as if it had never been used. What
        was done all the same is found again by the command's own id.
        """
        if ask.idempotency_key is None or ask.dry_run:
            return act(ask)
        key = request_key(idempotency_key=ask.idempotency_key, request_id=ask.request_id)
        record = request_id(ask.caller.tenant_id, ask.caller.project_id, key)
        digest, token = digest_of(command), self._entropy.token_bytes(8).hex()
        known = self._take(record, RequestBegun(digest=digest, token=token), token)
        if known.is_answered:
            return Answer(known.status, known.body, known.location)
        try:
            answer = act(ask)
        except MillraceError:
            with suppress(Unavailable):  # Then the lease ends it.
                self._take(record, RequestDropped(token=token), token)
            raise
        event = told(answer) if told else None
        answered = RequestAnswered(
            digest=digest, status=answer.status, body=answer.body, location=answer.location, told=event,
            about=answer.about or (event.command_id if event else ""),
        )  # fmt: skip
        kept = self._take(record, answered, token)
        return replace(answer, status=kept.status, body=kept.body, location=kept.location)

    def _take(self, record: str, news: Internal, token: str) -> Request:
        cause = event_id(record, f"{news.kind}|{token}", 0)
        return self._requests.take(record, Envelope(cause, news, subject=record, time_ms=self._clock.now_ms()))


def digest_of(command: Command) -> str:
    """What was asked, as a hash: the kind and the content, not who asked."""
    content = command.model_dump_json(exclude={"actor"})
    return hashlib.sha256(f"{command.kind}.v{command.version}|{content}".encode()).hexdigest()
