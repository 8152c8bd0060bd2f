"""What was told of windows, read from metering's own journal: in the order of commits, with nothing ever forgotten."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Final

from pydantic import TypeAdapter

from libs.common.runner import CAUSE
from libs.common.store.port import JournalRow, Store
from services.metering.core.exports.decide import Wanted
from services.metering.core.exports.state import Sold
from services.metering.core.parts import Parts
from services.metering.core.state import Window
from services.metering.core.telling import Totalled
from services.metering.shell.audit import WINDOW

PAGE: Final = 1000  # Journal rows read at once.

_WINDOW: Final = TypeAdapter(Window)


@dataclass(frozen=True, slots=True)
class Telling:
    """A revision of a window, or of a part of it."""

    key: str
    wanted: Wanted
    parts: Parts = ()

    def divided(self) -> Iterator[Telling]:
        """The revision of each part, under a key of its own; what is of no adapter or class has that of the window.

        That one is there in any case: a build that did not tell parts may have had all of the window exported.
        """
        sold, revision = self.wanted.sold, self.wanted.revision
        aside = sum(each.quantity for each in self.parts if each.adapter or each.node_class)
        yield replace(self, wanted=self.wanted.model_copy(update={"quantity": self.wanted.quantity - aside}), parts=())
        for each in self.parts:
            if each.adapter or each.node_class:
                part = replace(sold, adapter=each.adapter, node_class=each.node_class)
                yield Telling(
                    f"{self.key};{each.adapter};{each.node_class}",
                    Wanted(sold=part, revision=revision, quantity=each.quantity),
                )


@dataclass(frozen=True, slots=True)
class News:
    """Tellings, and how far the journal was read for them; `is_all`: there is no more."""

    tellings: Sequence[Telling]
    position: int
    is_all: bool


def told_after(store: Store, position: int) -> News:
    """What was told behind a place in the journal; of each window only what stands now."""
    rows = store.journal_rows(after=position, limit=PAGE)
    tellings = [each for row in rows if row.kind == WINDOW and (each := _telling(store, row)) is not None]
    return News(tellings, rows[-1].seq if rows else position, is_all=len(rows) < PAGE)


def _telling(store: Store, row: JournalRow) -> Telling | None:
    if not row.cause_type.startswith(f"{Totalled.kind}."):
        return None
    told = Totalled.model_validate(CAUSE.validate_json(row.cause)["data"])
    record = store.load(WINDOW, row.key)
    window = None if record is None else _WINDOW.validate_json(record.state)
    if window is None or (window.revision, window.quantity) != (told.revision, told.quantity):
        return None  # Overtaken by a later row, or never told.
    sold = Sold(
        tenant_id=told.tenant_id,
        project_id=told.project_id,
        endpoint_id=told.endpoint_id,
        generation=told.generation,
        model=told.model,
        tier=told.tier,
        region=told.region,
        meter=told.meter,
        account=told.account,
        start_ms=told.start_ms,
        end_ms=told.end_ms,
        tenancy=told.tenancy,
    )
    wanted = Wanted(sold=sold, revision=told.revision, quantity=told.quantity)
    return Telling(row.key, wanted, told.parts or ())
