"""What a billing system can take: its customers, its codes, its limits. Adapters name the figures."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from services.metering.core.exports.state import Code, Sold


@dataclass(frozen=True, slots=True)
class Limits:
    """The figures of a kind of receiver. None: no limit.

    `dedupes_ms`: how long it knows an id again. `cancels_ms`: how long it lets an addition be taken back by its id.
    `past_ms`: how old a window it takes. `takes_parts`: its events say more than customer, meter and quantity, so each
    part of a window is one of its own.
    """

    takes_negative: bool
    batch_max: int
    dedupes_ms: int | None = None
    cancels_ms: int = 0
    past_ms: int | None = None
    takes_parts: bool = True


@dataclass(frozen=True, slots=True)
class Receiver:
    """One billing system as an operator configured it. `customer_default` may contain `{tenant}` and `{project}`."""

    name: str
    limits: Limits
    customers: Mapping[str, str]
    codes: Mapping[str, Code]
    since_ms: int
    customer_default: str = ""

    def customer_of(self, sold: Sold) -> str:
        """Who pays there, by project or by tenant; empty if nobody was named."""
        place = f"{sold.tenant_id}/{sold.project_id}"
        known = self.customers.get(place) or self.customers.get(sold.tenant_id)
        if known or not self.customer_default:
            return known or ""
        return self.customer_default.replace("{tenant}", sold.tenant_id).replace("{project}", sold.project_id)

    def code_of(self, sold: Sold) -> Code | None:
        """What the meter is called there; None if it is not sold there."""
        return self.codes.get(sold.meter_name)
