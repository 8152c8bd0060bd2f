"""Delivers notices to webhooks: at least once, in order for each, whatever one receiver does to the others."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from functools import partial
from typing import Final

from libs.common.clock import Clock
from libs.common.errors import MillraceError, Unavailable
from libs.common.events.envelope import Envelope
from libs.common.ids import event_id
from libs.common.runner import Runner
from libs.common.store.port import Attention, Store, Told
from libs.common.telemetry.logging import fields
from services.endpoint_api.core.notices import Notice, notice_of, wants
from services.endpoint_api.core.state import home_of
from services.endpoint_api.core.webhooks import DeliveryEnded, PassedOver, Webhook
from services.endpoint_api.shell import metrics
from services.endpoint_api.shell.secrets import Secrets
from services.endpoint_api.shell.sender import Sender, Sent

log = logging.getLogger(__name__)

POLL_S: Final = 0.5
AT_ONCE_MAX: Final = 16  # Receivers that are sent to at the same time.
IN_ONE_GO_MAX: Final = 100  # Messages to one receiver before the others get their turn.
PAGE: Final = 200
SCAN_PAGES_MAX: Final = 50
PASSED_OVER_MIN: Final = 1000  # Positions that were for others before it is worth a write to say so.
WEBHOOKS_MAX: Final = 10_000


class Dispatcher:
    """Sends what webhooks wait for. State is in the store alone: a new process goes on where this one ended."""

    def __init__(
        self,
        webhooks: Runner[Webhook],
        store: Store,
        clock: Clock,
        secrets: Secrets,
        sender: Sender,
        home_of_endpoint: Callable[[str], str],
    ) -> None:
        self._webhooks = webhooks
        self._store = store
        self._clock = clock
        self._secrets = secrets
        self._sender = sender
        self._home = home_of_endpoint
        self._at_once = asyncio.Semaphore(AT_ONCE_MAX)
        self._busy: dict[str, asyncio.Task[None]] = {}
        self._scanned: dict[str, int] = {}
        self._pages: dict[int, Told] = {}

    async def run(self) -> None:
        """Deliver until cancelled."""
        try:
            while True:
                try:
                    await self.round()
                except Unavailable as later:
                    log.warning("webhooks wait for the database", extra=fields(reason=str(later)))
                await asyncio.sleep(POLL_S)
        finally:
            for each in self._busy.values():
                each.cancel()

    async def round(self) -> int:
        """Begin to serve every webhook that has something to get; returns how many."""
        self._pages = {}
        waiting = await asyncio.to_thread(self._active)
        for webhook in waiting:
            if webhook.id not in self._busy:
                task = asyncio.create_task(self._serve(webhook.id))
                self._busy[webhook.id] = task
                task.add_done_callback(partial(self._done, webhook.id))
        return len(waiting)

    def _done(self, webhook_id: str, _task: asyncio.Task[None]) -> None:
        self._busy.pop(webhook_id, None)

    async def settle(self) -> None:
        """Wait for what was begun."""
        await asyncio.gather(*self._busy.values())

    def _active(self) -> list[Webhook]:
        now_ms = self._clock.now_ms()
        keys = self._store.attended(self._webhooks.owned.kind, Attention.WATCH, limit=WEBHOOKS_MAX)
        states = [state for key in keys if (state := self._webhooks.state(key)) is not None]
        self._scanned = {key: at for key, at in self._scanned.items() if key in set(keys)}
        return [
            each
            for each in states
            if each.is_active and (each.again or (each.next_attempt_ms <= now_ms and self._next(each)))
        ]

    async def _serve(self, webhook_id: str) -> None:
        async with self._at_once:
            try:
                for _ in range(IN_ONE_GO_MAX):
                    if not await self._deliver_one(webhook_id):
                        return
            except MillraceError as later:
                log.warning("delivery not recorded; again later", extra=fields(reason=str(later)))
            except Exception:
                log.exception("delivery failed")  # This loop owns the webhook; the next round tries again.

    async def _deliver_one(self, webhook_id: str) -> bool:
        """Send the next message, by hand first; False if there is none or the receiver did not take it."""
        webhook = await asyncio.to_thread(self._webhooks.state, webhook_id)
        if webhook is None or not webhook.is_active:
            return False
        by_hand = bool(webhook.again)
        if by_hand:
            notice = await asyncio.to_thread(self._at, webhook.again[0])
            if notice is None:  # Forgotten by now; the record of it goes with this answer.
                return await self._forget(webhook, webhook.again[0])
        elif webhook.next_attempt_ms > self._clock.now_ms():
            return False
        else:
            notice = await asyncio.to_thread(self._next, webhook)
            if notice is None:
                return False
        sent = await self._send(webhook, notice)
        await asyncio.to_thread(self._record, webhook, notice, sent, by_hand)
        return by_hand or 200 <= sent.status < 300

    async def _send(self, webhook: Webhook, notice: Notice) -> Sent:
        now_ms = self._clock.now_ms()
        at_s = now_ms // 1000
        secrets = [self._secrets.of_webhook(webhook.id, each) for each in webhook.secrets_at(now_ms)]
        signatures = [self._secrets.sign(each, id=notice.id, at_s=at_s, body=notice.body) for each in secrets]
        headers = {
            "content-type": "application/cloudevents+json; charset=utf-8",
            "webhook-id": notice.id,
            "webhook-timestamp": str(at_s),
            "webhook-signature": " ".join(signatures),
        }
        began_s = time.monotonic()
        sent = await self._sender.send(webhook.url, headers, notice.body.encode())
        metrics.DELIVERY_SECONDS.observe(time.monotonic() - began_s)
        metrics.DELIVERIES.labels(outcome=_outcome(sent)).inc()
        return sent

    def _record(self, webhook: Webhook, notice: Notice, sent: Sent, by_hand: bool) -> None:
        ended = DeliveryEnded(
            event_id=notice.id,
            event_kind=notice.kind,
            position=notice.position,
            status=sent.status,
            error=sent.error,
            by_hand=by_hand,
        )
        self._take(webhook.id, ended, f"{notice.position}|{webhook.attempts}|{by_hand}")

    async def _forget(self, webhook: Webhook, position: int) -> bool:
        gone = next((each for each in webhook.deliveries if each.position == position), None)
        ended = DeliveryEnded(
            event_id=gone.event_id if gone else "",
            event_kind=gone.kind if gone else "",
            position=position,
            status=0,
            error="the event is too old to be sent again",
            by_hand=True,
        )
        await asyncio.to_thread(self._take, webhook.id, ended, f"{position}|forgotten")
        return True

    def _take(self, webhook_id: str, ended: DeliveryEnded | PassedOver, what: str) -> None:
        now_ms = self._clock.now_ms()
        cause = event_id(webhook_id, f"{ended.kind}|{what}|{now_ms}", 0)
        self._webhooks.take(webhook_id, Envelope(cause, ended, subject=webhook_id, time_ms=now_ms))

    def _at(self, position: int) -> Notice | None:
        """The notice at a position; None if it is forgotten."""
        messages = self._store.told(after=position - 1, limit=1).messages
        found = notice_of(messages[0], self._home) if messages else None
        return found if found is not None and found.position == position else None

    def _next(self, webhook: Webhook) -> Notice | None:
        """The first notice behind the cursor that the webhook wants."""
        home = home_of(webhook.tenant_id, webhook.project_id)
        after = max(webhook.cursor, self._scanned.get(webhook.id, 0))
        for _ in range(SCAN_PAGES_MAX):
            told = self._pages.get(after) or self._store.told(after=after, limit=PAGE)
            self._pages[after] = told
            for each in told.messages:
                notice = notice_of(each, self._home)
                if notice is not None and notice.home == home and wants(webhook.events, notice, webhook_id=webhook.id):
                    return notice
                self._scanned[webhook.id] = after = each.position
            if len(told.messages) < PAGE:
                break
        if after - webhook.cursor >= PASSED_OVER_MIN:
            self._take(webhook.id, PassedOver(position=after), str(after))
        return None


def _outcome(sent: Sent) -> str:
    if sent.status == 0:
        return "no_answer"
    return "delivered" if 200 <= sent.status < 300 else "refused"
