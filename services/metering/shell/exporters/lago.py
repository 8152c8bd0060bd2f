"""Lago over HTTP: batches taken whole or not at all; the wrong events are named, the others go again at once."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Final

import httpx

from services.metering.core.exports import lago
from services.metering.core.exports.state import Intent
from services.metering.shell.exporters.reply import Answer, End, Result, all_of, brief, post, text_at

PATH: Final = "/api/v1/events/batch"
HEADERS: Final = {"content-type": "application/json"}


class Lago:
    """One Lago; `client` has its address and key."""

    def __init__(self, client: httpx.Client) -> None:
        self._client = client

    def send(self, intents: Sequence[Intent]) -> Sequence[Result]:
        """Send a batch; each further round is smaller by the ones that were named."""
        content = json.dumps({"events": [lago.event_of(each) for each in intents]}).encode()
        answer = post(self._client, PATH, content=content, headers=HEADERS)
        if answer.end is not None:
            return all_of(intents, answer, answer.end)
        if answer.status < 300:
            return [_confirmed(each, answer) for each in intents]
        named = _named(answer.body, len(intents))
        if answer.status == HTTPStatus.UNPROCESSABLE_ENTITY and named:
            results = [_refused(intents[index], answer, why) for index, why in named.items()]
            rest = [each for index, each in enumerate(intents) if index not in named]
            return [*results, *self.send(rest)] if rest else results
        if len(intents) == 1:
            why = text_at(answer.body, "error") or text_at(answer.body, "code")
            return [Result(intents[0], End.REFUSED, brief(f"{answer.detail} {why}"))]
        half = len(intents) // 2
        return [*self.send(intents[:half]), *self.send(intents[half:])]

    def shown(self, intent: Intent) -> object:
        """The event."""
        return lago.event_of(intent)


def _confirmed(intent: Intent, answer: Answer) -> Result:
    events = answer.body.get("events") if isinstance(answer.body, dict) else None
    there = {text_at(each, "transaction_id") for each in events} if isinstance(events, list) else set()
    return Result(intent, End.ACCEPTED if intent.id in there else End.UNSURE, answer.detail)


def _named(body: object, count: int) -> Mapping[int, str]:
    details = body.get("error_details") if isinstance(body, dict) else None
    if not isinstance(details, dict):
        return {}
    return {
        int(index): json.dumps(why, sort_keys=True)
        for index, why in details.items()
        if index.isdecimal() and int(index) < count
    }


def _refused(intent: Intent, answer: Answer, why: str) -> Result:
    if lago.EXISTS in why and '"transaction_id"' in why:
        return Result(intent, End.ACCEPTED, f"{answer.detail} duplicate")
    return Result(intent, End.REFUSED, brief(f"{answer.detail} {why}"))
