"""Stripe over HTTP: one call for each addition and each cancellation; stops at the first that does not get through."""

from __future__ import annotations

from collections.abc import Sequence
from http import HTTPStatus
from typing import Final
from urllib.parse import urlencode

import httpx

from services.metering.core.exports import stripe
from services.metering.core.exports.state import Act, Intent
from services.metering.shell.exporters.reply import Answer, End, Result, brief, post, text_at

EVENTS: Final = "/v1/billing/meter_events"
ADJUSTMENTS: Final = "/v1/billing/meter_event_adjustments"
FORM: Final = {"content-type": "application/x-www-form-urlencoded"}
MISSING: Final = "resource_missing"  # A 404 about our customer, not about the address.


class Stripe:
    """One Stripe account; `client` has its address and key."""

    def __init__(self, client: httpx.Client) -> None:
        self._client = client

    def send(self, intents: Sequence[Intent]) -> Sequence[Result]:
        """Send one after the other; what was not tried is unsent."""
        results: list[Result] = []
        for number, intent in enumerate(intents):
            results.append(self._send(intent))
            last = results[-1]
            if last.end in (End.UNSENT, End.UNSURE):
                rest = intents[number + 1 :]
                return [*results, *(Result(each, End.UNSENT, "not tried", last.retry_after_s) for each in rest)]
        return results

    def shown(self, intent: Intent) -> object:
        """The form."""
        return stripe.event_of(intent) if intent.act is Act.ADD else stripe.cancel_of(intent)

    def _send(self, intent: Intent) -> Result:
        is_add = intent.act is Act.ADD
        form = stripe.event_of(intent) if is_add else stripe.cancel_of(intent)
        # An addition has its identifier; a key as well would replay a 500 to every retry for a day.
        headers = FORM if is_add else {**FORM, "idempotency-key": f"{intent.id}.{intent.made_ms}"}
        answer = post(
            self._client, EVENTS if is_add else ADJUSTMENTS, content=urlencode(form).encode(), headers=headers
        )
        return _read(intent, answer, _is_receipt(intent, answer))


def _is_receipt(intent: Intent, answer: Answer) -> bool:
    if intent.act is Act.ADD:
        return text_at(answer.body, "identifier") == intent.id
    return text_at(answer.body, "cancel", "identifier") == intent.cancels


def _read(intent: Intent, answer: Answer, is_receipt: bool) -> Result:
    code, message = text_at(answer.body, "error", "code"), text_at(answer.body, "error", "message")
    if answer.end is not None and code != MISSING:
        return Result(intent, answer.end, answer.detail, answer.retry_after_s)
    if answer.status < 300:
        return Result(intent, End.ACCEPTED if is_receipt else End.UNSURE, answer.detail)
    if answer.status == HTTPStatus.CONFLICT:  # Another call for this customer and meter is under way; no duplicate.
        return Result(intent, End.UNSENT, answer.detail, answer.retry_after_s)
    if stripe.is_duplicate(code, message):
        return Result(intent, End.ACCEPTED, f"{answer.detail} duplicate")
    return Result(intent, End.REFUSED, brief(f"{answer.detail} {code} {message}"))
