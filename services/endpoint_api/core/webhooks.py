"""Decide for webhooks: who is sent what, in order, how often again, and when no more.

A record holds no secret: secrets are computed from the service's master secret and `secret_no` (shell/secrets.py).
`cursor` is the position in the outbox up to which everything was delivered or was not for this webhook.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass, replace
from typing import ClassVar, Final

from libs.common.decision import Decision, Give, Take
from libs.common.errors import Conflict, NotFound
from libs.common.events.envelope import Envelope
from libs.common.events.event import Internal, Owner
from libs.common.events.webhook import WebhookDisabled, WebhookTested
from libs.common.units import HOUR_MS, MINUTE_MS, SECOND_MS
from services.endpoint_api.core.commands import Command
from services.endpoint_api.core.notices import SHOWN
from services.endpoint_api.core.refusal import FieldRefused
from services.endpoint_api.core.state import home_of

NO_WEBHOOK: Final = "no such webhook in this project"
DELIVERIES_MAX: Final = 50  # Shown and sendable again; older ones are in the events of the watch.
REDELIVERIES_MAX: Final = 20
EVENTS_MAX: Final = 20
OVERLAP_MAX_MS: Final = 7 * 24 * HOUR_MS
# The waits of Standard Webhooks: together 3.1 days, then the receiver is given up.
BACKOFF_MS: Final = (
    5 * SECOND_MS, 5 * MINUTE_MS, 30 * MINUTE_MS, 2 * HOUR_MS, 5 * HOUR_MS, 10 * HOUR_MS, 14 * HOUR_MS, 20 * HOUR_MS,
    24 * HOUR_MS,
)  # fmt: skip
SPREAD_PERCENT: Final = 20  # So that receivers that failed together are not asked again together.
GONE: Final = 410


@dataclass(frozen=True, slots=True)
class Delivery:
    """An event on its way to one receiver, and how the last attempt ended; `status` 0: there was no answer."""

    event_id: str
    kind: str
    position: int
    attempts: int
    at_ms: int
    status: int
    error: str = ""

    @property
    def is_done(self) -> bool:
        """Whether the receiver has it."""
        return 200 <= self.status < 300


@dataclass(frozen=True, slots=True)
class Webhook:
    """A receiver of a project's events."""

    id: str
    tenant_id: str = ""
    project_id: str = ""
    url: str = ""
    events: tuple[str, ...] = ()
    created_ms: int = 0
    deleted_ms: int | None = None
    disabled: str = ""  # Why; empty while it is sent to.
    secret_no: int = 0
    previous_until_ms: int = 0  # Until when the secret before this one signs too.
    cursor: int = 0
    attempts: int = 0  # Of the event at the head.
    next_attempt_ms: int = 0
    deliveries: tuple[Delivery, ...] = ()
    again: tuple[int, ...] = ()  # Positions to send again by hand.

    @property
    def is_known(self) -> bool:
        """Whether it was made and not deleted."""
        return bool(self.url) and self.deleted_ms is None

    @property
    def is_active(self) -> bool:
        """Whether events are sent to it."""
        return self.is_known and not self.disabled

    def as_asked(self) -> Webhook:
        """What people asked for, without how it is served: that has places among the events of all tenants."""
        return replace(self, cursor=0, attempts=0, next_attempt_ms=0, deliveries=(), again=())

    def secrets_at(self, now_ms: int) -> tuple[int, ...]:
        """The numbers of the secrets that sign now, the newest first."""
        if self.secret_no > 1 and now_ms < self.previous_until_ms:
            return (self.secret_no, self.secret_no - 1)
        return (self.secret_no,)


class CreateWebhook(Command):
    """Send a project's events to a URL from ``cursor`` on."""

    kind: ClassVar[str] = "internal.create_webhook"

    tenant_id: str
    project_id: str
    url: str
    events: tuple[str, ...]
    cursor: int
    webhooks_max: int


class DeleteWebhook(Command):
    """Send nothing more to it."""

    kind: ClassVar[str] = "internal.delete_webhook"


class EnableWebhook(Command):
    """Send to it again, from where it stood."""

    kind: ClassVar[str] = "internal.enable_webhook"


class RotateWebhookSecret(Command):
    """Sign with a new secret, and with the one before too for a while."""

    kind: ClassVar[str] = "internal.rotate_webhook_secret"

    overlap_ms: int


class RedeliverWebhook(Command):
    """Send one event of the past again."""

    kind: ClassVar[str] = "internal.redeliver_webhook"

    event_id: str


class TryWebhook(Command):
    """Send a test event."""

    kind: ClassVar[str] = "internal.try_webhook"


class DeliveryEnded(Internal):
    """An attempt ended."""

    kind: ClassVar[str] = "internal.delivery_ended"
    owner: ClassVar[Owner] = Owner.ENDPOINT_API

    event_id: str
    event_kind: str
    position: int
    status: int
    error: str = ""
    by_hand: bool = False


class PassedOver(Internal):
    """Nothing up to this position was for the webhook."""

    kind: ClassVar[str] = "internal.passed_over"
    owner: ClassVar[Owner] = Owner.ENDPOINT_API

    position: int


def decide(webhook: Webhook, envelope: Envelope, now_ms: int) -> Decision[Webhook]:
    """The webhook after ``envelope``. What comes after its deletion changes nothing."""
    data = envelope.data
    if isinstance(data, CreateWebhook):
        return _create(webhook, data, now_ms)
    if isinstance(data, Command):
        return _commanded(webhook, data, now_ms)
    if not webhook.is_known:
        return Decision(webhook)
    match data:
        case DeliveryEnded() as ended:
            return _ended(webhook, ended, now_ms)
        case PassedOver() as passed:
            return Decision(replace(webhook, cursor=max(webhook.cursor, passed.position)))
        case other:
            raise AssertionError(f"webhooks hear no {other.kind}")


def webhooks_counter(tenant_id: str, project_id: str) -> str:
    """The store's counter of a project's webhooks."""
    return f"webhooks/{tenant_id}/{project_id}"


def scope_of_webhook(webhook: Webhook) -> str:
    """The project while it lives; a place apart afterwards."""
    home = home_of(webhook.tenant_id, webhook.project_id)
    return home if webhook.is_known else f"{home}/deleted"


def check_events(events: tuple[str, ...]) -> None:
    """Raises FieldRefused for a kind of event that nobody is told."""
    nouns = {f"{each.partition('.')[0]}.*" for each in SHOWN}
    known = sorted({"*", *SHOWN, *nouns})
    if not events or len(events) > EVENTS_MAX or set(events) - set(known):
        raise FieldRefused("events", f"must be 1 to {EVENTS_MAX} of {', '.join(known)}")


def backoff_ms(webhook_id: str, attempts: int) -> int | None:
    """The wait after so many failed attempts, spread by a computed jitter; None: give up."""
    if attempts > len(BACKOFF_MS):
        return None
    wait_ms = BACKOFF_MS[attempts - 1]
    spread = zlib.crc32(f"{webhook_id}|{attempts}".encode()) % (2 * SPREAD_PERCENT + 1) - SPREAD_PERCENT
    return wait_ms * (100 + spread) // 100


def _create(webhook: Webhook, command: CreateWebhook, now_ms: int) -> Decision[Webhook]:
    if webhook.url:
        message = (
            "this Idempotency-Key made a webhook before, and a secret is shown once; rotate its secret if it is lost,"
            " or use a new Idempotency-Key"
        )
        raise Conflict(message, code="webhook_already_made")
    created = replace(
        webhook,
        tenant_id=command.tenant_id,
        project_id=command.project_id,
        url=command.url,
        events=command.events,
        created_ms=now_ms,
        secret_no=1,
        cursor=command.cursor,
    )
    taken = Take(webhooks_counter(command.tenant_id, command.project_id), 1, command.webhooks_max)
    return Decision(created, counters=(taken,))


def _commanded(webhook: Webhook, command: Command, now_ms: int) -> Decision[Webhook]:
    if not webhook.is_known:
        raise NotFound(NO_WEBHOOK)
    match command:
        case DeleteWebhook():
            given = Give(webhooks_counter(webhook.tenant_id, webhook.project_id), 1)
            return Decision(replace(webhook, deleted_ms=now_ms, again=()), counters=(given,))
        case EnableWebhook():
            return Decision(replace(webhook, disabled="", attempts=0, next_attempt_ms=now_ms))
        case RotateWebhookSecret() as rotated:
            until_ms = now_ms + rotated.overlap_ms
            return Decision(replace(webhook, secret_no=webhook.secret_no + 1, previous_until_ms=until_ms))
        case RedeliverWebhook() as wanted:
            return _redeliver(webhook, wanted)
        case TryWebhook():
            told = WebhookTested(tenant_id=webhook.tenant_id, project_id=webhook.project_id, webhook_id=webhook.id)
            return Decision(webhook, events=(told,))
        case other:
            raise AssertionError(f"webhooks take no {other.kind}")


def _redeliver(webhook: Webhook, wanted: RedeliverWebhook) -> Decision[Webhook]:
    found = next((each for each in webhook.deliveries if each.event_id == wanted.event_id), None)
    if found is None:
        raise NotFound("no such delivery among the newest of this webhook")
    if found.position in webhook.again:
        return Decision(webhook)
    if len(webhook.again) >= REDELIVERIES_MAX:
        raise Conflict(f"{REDELIVERIES_MAX} events wait to be sent again; wait for them", code="too_many_redeliveries")
    return Decision(replace(webhook, again=(*webhook.again, found.position)))


def _ended(webhook: Webhook, ended: DeliveryEnded, now_ms: int) -> Decision[Webhook]:
    if not ended.by_hand and ended.position <= webhook.cursor:
        return Decision(webhook)  # Another process was quicker; the receiver tells the two apart by their one id.
    known = next((each for each in webhook.deliveries if each.event_id == ended.event_id), None)
    delivery = Delivery(
        ended.event_id,
        ended.event_kind,
        ended.position,
        (known.attempts if known else 0) + 1,
        now_ms,
        ended.status,
        ended.error,
    )
    others = tuple(each for each in webhook.deliveries if each.event_id != ended.event_id)
    webhook = replace(webhook, deliveries=(*others, delivery)[-DELIVERIES_MAX:])
    if ended.by_hand:
        return Decision(replace(webhook, again=tuple(each for each in webhook.again if each != ended.position)))
    if delivery.is_done:
        return Decision(replace(webhook, cursor=ended.position, attempts=0, next_attempt_ms=now_ms))
    attempts = webhook.attempts + 1
    wait_ms = backoff_ms(webhook.id, attempts)
    if ended.status == GONE or wait_ms is None:
        return _disable(replace(webhook, attempts=attempts), "receiver_gone" if ended.status == GONE else "")
    return Decision(replace(webhook, attempts=attempts, next_attempt_ms=now_ms + wait_ms))


def _disable(webhook: Webhook, reason: str) -> Decision[Webhook]:
    disabled = replace(webhook, disabled=reason or "receiver_failing")
    told = WebhookDisabled(
        tenant_id=webhook.tenant_id, project_id=webhook.project_id, webhook_id=webhook.id, reason=disabled.disabled
    )
    return Decision(disabled, events=(told,))
