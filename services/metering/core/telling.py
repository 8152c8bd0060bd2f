"""What a window tells: of its totals the next one, each once, with the parts that add up to it."""

from __future__ import annotations

from typing import ClassVar

from libs.common.decision import Decision
from libs.common.errors import Invalid
from libs.common.events.envelope import Envelope
from libs.common.events.event import Internal, Owner
from libs.common.events.usage import Meter as MeterName
from libs.common.events.usage import UsageRecorded
from services.metering.core.parts import Parts
from services.metering.core.parts import told as told_parts
from services.metering.core.state import Window


class Totalled(Internal):
    """The ledger's sum of one window is not what was told last; `revision` is the one to tell."""

    kind: ClassVar[str] = "metering.totalled"
    owner: ClassVar[Owner] = Owner.METERING

    key: str
    root: str
    tenant_id: str
    project_id: str
    endpoint_id: str
    generation: int
    model: str
    tier: str
    region: str
    meter: MeterName
    account: str
    start_ms: int
    end_ms: int
    quantity: int
    revision: int
    tenancy: str = ""
    parts: Parts | None = None

    def differs_from(self, window: Window) -> bool:
        """Whether this is not what was told last; parts of a window that was told without are nothing to tell alone."""
        has_other_parts = window.parts is not None and told_parts(self.parts or ()) != window.parts
        return self.quantity != window.quantity or has_other_parts


def decide_window(window: Window, envelope: Envelope, _now_ms: int) -> Decision[Window]:
    """Tell a window's total as the next revision; anything but the next revision is old and changes nothing."""
    news = envelope.data
    assert isinstance(news, Totalled), news
    if news.revision != window.revision + 1 or not news.differs_from(window):
        return Decision(window)
    least = min((news.quantity, *(each.quantity for each in news.parts or ())))
    if least < 0:
        raise Invalid(f"window {window.key} adds up to {least}: the ledger took back more than it had")
    parts = None if news.parts is None else told_parts(news.parts)
    told = UsageRecorded(
        tenant_id=news.tenant_id,
        project_id=news.project_id,
        endpoint_id=news.endpoint_id,
        model=news.model,
        tier=news.tier,
        region=news.region,
        meter=news.meter,
        account=news.account,
        quantity=news.quantity,
        window_start_ms=news.start_ms,
        window_end_ms=news.end_ms,
        revision=news.revision,
        tenancy=news.tenancy,
        parts=parts or (),
    )
    after = Window(
        key=window.key,
        root=news.root,
        account=news.account,
        meter=news.meter,
        model=news.model,
        start_ms=news.start_ms,
        end_ms=news.end_ms,
        quantity=news.quantity,
        revision=news.revision,
        parts=parts,
    )
    return Decision(after, events=(told,), generation=news.generation, about=news.endpoint_id)
