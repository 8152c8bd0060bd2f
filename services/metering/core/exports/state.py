"""The records of exports: one window at one receiver, and how far a receiver's feed was read."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from enum import StrEnum

from libs.common.events.usage import Meter as MeterName
from libs.common.store.port import Attention


class Reason(StrEnum):
    """Why a difference is not sent and waits for people."""

    NO_CUSTOMER = "no_customer"
    NO_DIMENSIONS = "no_dimensions"
    TOO_OLD = "too_old"
    TOO_LATE_TO_TAKE_BACK = "too_late_to_take_back"
    REFUSED = "refused"
    UNKNOWN_OUTCOME = "unknown_outcome"


class Act(StrEnum):
    """What an intent asks of the receiver."""

    ADD = "add"
    CANCEL = "cancel"


class Outcome(StrEnum):
    """How a sending ended; a sending that may or may not have arrived has not ended."""

    ACCEPTED = "accepted"
    REFUSED = "refused"
    UNSENT = "unsent"


@dataclass(frozen=True, slots=True)
class Sold:
    """The window: whose it is, what was sold in it, and when."""

    tenant_id: str = ""
    project_id: str = ""
    endpoint_id: str = ""
    generation: int = 0
    model: str = ""
    tier: str = ""
    region: str = ""
    meter: MeterName = MeterName.REQUESTS
    account: str = ""
    start_ms: int = 0
    end_ms: int = 0
    adapter: str = ""
    node_class: str = ""
    tenancy: str = ""

    @property
    def article(self) -> tuple[str, str, str]:
        """What a price depends on besides the meter."""
        return (self.model, self.tier, self.region)

    @property
    def meter_name(self) -> str:
        """The meter with its account, as `gpu_ms/serving`."""
        return f"{self.meter}/{self.account}" if self.account else str(self.meter)


@dataclass(frozen=True, slots=True)
class Code:
    """What a receiver calls a meter: `field` gets the quantity, divided by `per` where it counts in larger units."""

    name: str
    field: str = "quantity"
    per: int = 1


@dataclass(frozen=True, slots=True)
class Intent:
    """What is sent, whole: it does not change until the receiver answered. `quantity` is the change at the receiver."""

    id: str
    act: Act
    revision: int
    quantity: int
    total: int
    sold: Sold
    customer: str
    code: Code
    made_ms: int
    cancels: str = ""


@dataclass(frozen=True, slots=True)
class Piece:
    """An addition that the receiver has and may still let us take back."""

    id: str
    quantity: int
    sent_ms: int
    receipt: str


@dataclass(frozen=True, slots=True)
class Export:
    """One window, or one part of it, at one receiver: what is wanted there, what it holds, and what is under way.

    `held` was sold as `held_as`; `begun` numbers the intents, `tries` the sendings of this one; `receipt` is the
    receiver's last word.
    """

    key: str
    sold: Sold = Sold()
    revision: int = 0
    quantity: int = 0
    held: int = 0
    held_as: Sold = Sold()
    pieces: tuple[Piece, ...] = ()
    intent: Intent | None = None
    begun: int = 0
    tries: int = 0
    accepted_ms: int = 0
    receipt: str = ""
    parked: Reason | None = None
    parked_detail: str = ""
    parked_ms: int = 0

    @property
    def waits(self) -> bool:
        """Whether there is something to send."""
        if self.parked is not None:
            return False
        return self.intent is not None or self.held != self.quantity or self.is_resold

    @property
    def window(self) -> str:
        """The key of the window that it is, or is a part of."""
        is_part = self.sold.adapter or self.sold.node_class
        return self.key.rsplit(";", 2)[0] if is_part else self.key

    @property
    def is_resold(self) -> bool:
        """Whether the receiver holds this under another model, tier or region."""
        return self.held != 0 and self.held_as.article != self.sold.article


@dataclass(frozen=True, slots=True)
class Feed:
    """How far a receiver's export has read the journal. `rewinds` numbers the times that somebody began again.

    Windows that began before `since_ms` are not exported; None: what the configuration says.
    """

    name: str
    position: int = 0
    since_ms: int | None = None
    rewinds: int = 0


def attention_of(export: Export) -> Attention:
    """An export is worked on while something is to be sent."""
    return Attention.NOW if export.waits else Attention.NONE


def scope_of(export: Export) -> str:
    """Parked exports can be listed apart."""
    return "parked" if export.parked is not None else ""


def id_of(key: str, revision: int, *more: str) -> str:
    """The id of a sending, the same after a crash: 24 digits of the window's hash, and the revision."""
    digest = hashlib.sha256(key.encode()).hexdigest()[:24]
    return ".".join((digest, str(revision), *more))
