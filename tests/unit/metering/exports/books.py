"""Metering with windows told straight into its store, and an export of it under test."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final

import httpx

from libs.common.clock import ManualClock
from libs.common.events.envelope import Envelope
from libs.common.events.usage import Meter as MeterName
from libs.common.ids import event_id
from libs.common.runner import Runner
from libs.common.store.memory import MemoryStore
from libs.common.store.port import Store
from libs.common.units import SECOND_MS
from services.metering.core.exports import lago, openmeter, stripe, table
from services.metering.core.exports.receiver import Limits, Receiver
from services.metering.core.exports.state import Code
from services.metering.core.parts import Parts
from services.metering.core.state import Window
from services.metering.core.telling import Totalled
from services.metering.service import WINDOWS
from services.metering.shell.exporters.lago import Lago
from services.metering.shell.exporters.openmeter import OpenMeter
from services.metering.shell.exporters.reply import Sender
from services.metering.shell.exporters.stripe import Stripe
from services.metering.shell.exporting import Exporting
from tests.support.web import NO_TLS
from tests.unit.metering.exports.receivers import TIMEOUT_S, Billing, LagoServer, OpenMeterServer, StripeServer
from tests.unit.metering.world import T0

DAY_MS: Final = 24 * 3600 * SECOND_MS
CODES: Final[Mapping[str, Code]] = {
    "requests": Code("requests"),
    "prompt_tokens": Code("prompt_tokens"),
    "completion_tokens": Code("completion_tokens"),
    "gpu_ms/loading": Code("gpu_ms/loading"),
    "gpu_ms/serving": Code("gpu_ms/serving"),
    "gpu_ms/draining": Code("gpu_ms/draining"),
}
SERVERS: Final[Mapping[str, type[Billing]]] = {
    "openmeter": OpenMeterServer,
    "stripe": StripeServer,
    "lago": LagoServer,
}
LIMITS: Final[Mapping[str, Limits]] = {
    "openmeter": openmeter.limits(dedupes_ms=DAY_MS),
    "stripe": stripe.limits(takes_negative=False),
    "lago": lago.LIMITS,
    "files": table.LIMITS,
}
PASSES_MAX: Final = 5000


def sender_to(system: str, url: str) -> Sender:
    """The adapter, with a short timeout."""
    headers = {"authorization": "Bearer secret-of-the-test"}
    client = httpx.Client(base_url=url, headers=headers, timeout=TIMEOUT_S, verify=NO_TLS)
    adapters: dict[str, Callable[[httpx.Client], Sender]] = {"openmeter": OpenMeter, "stripe": Stripe, "lago": Lago}
    return adapters[system](client)


def receiver_of(
    system: str, *, codes: Mapping[str, Code] = CODES, customers: Mapping[str, str] | None = None
) -> Receiver:
    """A receiver with these codes; everybody is a customer unless they are named."""
    default = "" if customers is not None else "cus-{tenant}"
    return Receiver(system, LIMITS[system], customers or {}, codes, 0, default)


@dataclass
class Books:
    """Windows as metering tells them."""

    clock: ManualClock = field(default_factory=lambda: ManualClock(T0))
    store: Store = field(default_factory=MemoryStore)
    revisions: dict[str, tuple[int, int]] = field(default_factory=dict)
    places: dict[str, tuple[str, int]] = field(default_factory=dict)

    def tell(
        self,
        quantity: int,
        *,
        start_ms: int = T0 - 10 * SECOND_MS,
        meter: MeterName = MeterName.PROMPT_TOKENS,
        account: str = "",
        tenant: str = "acme",
        endpoint: str = "ep-one",
        tier: str = "h100",
        parts: Parts | None = None,
    ) -> str:
        """Tell a window's total as its next revision; returns its key."""
        root = f"{tenant}/main/{endpoint}"
        key = f"{root}/{meter}/{account}/{start_ms}"
        revision, told = self.revisions.get(key, (0, 0))
        if quantity == told:
            return key
        revision += 1
        data = Totalled(
            key=key,
            root=root,
            tenant_id=tenant,
            project_id="main",
            endpoint_id=endpoint,
            generation=1,
            model="m-1",
            tier=tier,
            region="eu-1",
            meter=meter,
            account=account,
            start_ms=start_ms,
            end_ms=start_ms + 10 * SECOND_MS,
            quantity=quantity,
            revision=revision,
            parts=parts,
        )
        cause = event_id(key, "window", revision)
        windows: Runner[Window] = Runner(WINDOWS, store=self.store, clock=self.clock)
        windows.take(key, Envelope(cause, data, subject=key, time_ms=self.clock.now_ms()))
        self.revisions[key] = (revision, quantity)
        self.places[key] = (f"{meter}/{account}" if account else str(meter), start_ms)
        return key

    def truth(self) -> dict[tuple[str, int], int]:
        """What a receiver should hold, by code and start, without zeros."""
        found: dict[tuple[str, int], int] = {}
        for key, (_revision, quantity) in self.revisions.items():
            found[self.places[key]] = found.get(self.places[key], 0) + quantity
        return {place: quantity for place, quantity in found.items() if quantity}

    def export(self, receiver: Receiver, sender: Sender) -> Exporting:
        """A fresh process's export."""
        return Exporting(receiver, sender, store=self.store, clock=self.clock)

    def settle(self, export: Exporting, *, step_ms: int = 10 * SECOND_MS, for_ms: int = DAY_MS // 2) -> None:
        """Let it work until nothing waits that could be sent, and time pass where it waits."""
        until_ms = self.clock.now_ms() + for_ms
        for _ in range(PASSES_MAX):
            if export.run():
                continue
            status = export.status()
            if not status.waiting and not status.is_reading:
                return
            if self.clock.now_ms() > until_ms:
                raise AssertionError(f"does not come to rest: {status}")
            self.clock.advance(step_ms)
        raise AssertionError("does not come to rest")
