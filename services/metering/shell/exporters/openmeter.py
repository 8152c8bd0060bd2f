"""OpenMeter over HTTP: a batch of CloudEvents; a batch that is refused is halved until the bad event stands alone."""

from __future__ import annotations

import json
from collections.abc import Sequence
from http import HTTPStatus
from typing import Final

import httpx

from services.metering.core.exports import openmeter
from services.metering.core.exports.state import Intent
from services.metering.shell.exporters.reply import End, Result, all_of, brief, post, text_at

PATH: Final = "/api/v1/events"
HEADERS: Final = {"content-type": "application/cloudevents-batch+json"}


class OpenMeter:
    """One OpenMeter; `client` has its address and key."""

    def __init__(self, client: httpx.Client) -> None:
        self._client = client

    def send(self, intents: Sequence[Intent]) -> Sequence[Result]:
        """Send a batch."""
        content = json.dumps([openmeter.event_of(each) for each in intents]).encode()
        answer = post(self._client, PATH, content=content, headers=HEADERS)
        if answer.end is not None:
            return all_of(intents, answer, answer.end)
        if answer.status in (HTTPStatus.OK, HTTPStatus.ACCEPTED, HTTPStatus.NO_CONTENT):
            # Who answers 200 to anything (a proxy's page, say) is no OpenMeter: it says 204 and nothing.
            is_plain = answer.status == HTTPStatus.NO_CONTENT or answer.body is not None
            return all_of(intents, answer, End.ACCEPTED if is_plain else End.UNSURE)
        if len(intents) == 1:
            if answer.status == HTTPStatus.CONFLICT:
                return all_of(intents, answer, End.ACCEPTED)
            why = text_at(answer.body, "detail") or text_at(answer.body, "title")
            return [Result(intents[0], End.REFUSED, brief(f"{answer.detail} {why}"))]
        half = len(intents) // 2
        return [*self.send(intents[:half]), *self.send(intents[half:])]

    def shown(self, intent: Intent) -> object:
        """The event."""
        return openmeter.event_of(intent)
