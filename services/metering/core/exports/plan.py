"""The next thing to ask of a receiver, so that it comes to hold what the ledger says; or why nothing can be asked."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from libs.common.units import MINUTE_MS
from services.metering.core.exports.receiver import Receiver
from services.metering.core.exports.state import Act, Code, Export, Intent, Reason, id_of

MARGIN_MS: Final = 10 * MINUTE_MS  # Their clock is not ours, and a sending takes time: no limit is used to its end.


@dataclass(frozen=True, slots=True)
class Parked:
    """Nothing can be sent, and why."""

    reason: Reason
    detail: str


def next_intent(export: Export, receiver: Receiver, now_ms: int) -> Intent | Parked | None:
    """What to send next; None if the receiver holds what it should.

    What is held under another model, tier or region is taken back whole before the new total is added.
    """
    target = 0 if export.is_resold else export.quantity
    if target == export.held:
        return None
    sold = export.held_as if export.is_resold else export.sold
    customer, code = receiver.customer_of(sold), receiver.code_of(sold)
    if not customer:
        return Parked(Reason.NO_CUSTOMER, f"{receiver.name} has no customer for tenant {sold.tenant_id}")
    if code is None:
        return Parked(Reason.NO_CUSTOMER, f"{receiver.name} has no code for {sold.meter_name}")
    if not sold.model:
        return Parked(Reason.NO_DIMENSIONS, "the window does not say what was sold in it")
    if target < export.held and not receiver.limits.takes_negative:
        return _cancel(export, target, receiver, (customer, code), now_ms)
    if _is_old(export, receiver, now_ms):
        return Parked(Reason.TOO_OLD, f"{receiver.name} takes no windows this old")
    more = ("back",) if export.is_resold else ()
    return Intent(
        id=id_of(export.key, export.revision, *more),
        act=Act.ADD,
        revision=export.revision,
        quantity=target - export.held,
        total=target,
        sold=sold,
        customer=customer,
        code=code,
        made_ms=now_ms,
    )


def is_doubtful(intent: Intent, receiver: Receiver, now_ms: int) -> bool:
    """Whether the receiver may have forgotten the id, so that sending again could count twice."""
    dedupes_ms = receiver.limits.dedupes_ms
    return dedupes_ms is not None and now_ms - intent.made_ms > max(0, dedupes_ms - MARGIN_MS)


def _cancel(export: Export, target: int, receiver: Receiver, called: tuple[str, Code], now_ms: int) -> Intent | Parked:
    """Take back the newest addition, if enough can be taken back to come down to the target."""
    alive = [each for each in export.pieces if now_ms - each.sent_ms < receiver.limits.cancels_ms - MARGIN_MS]
    left = export.held
    for each in reversed(alive):
        if left > target:
            left -= each.quantity
    if left > target:
        too_much = export.held - target
        return Parked(Reason.TOO_LATE_TO_TAKE_BACK, f"{too_much} too much is there and can't be cancelled: credit it")
    if left < target and _is_old(export, receiver, now_ms):
        return Parked(Reason.TOO_OLD, f"{receiver.name} would not take the rest again")
    newest = alive[-1]
    return Intent(
        id=id_of(export.key, export.revision, "cancel", newest.id.partition(".")[2]),
        act=Act.CANCEL,
        revision=export.revision,
        quantity=-newest.quantity,
        total=export.held - newest.quantity,
        sold=export.held_as,
        customer=called[0],
        code=called[1],
        made_ms=now_ms,
        cancels=newest.id,
    )


def _is_old(export: Export, receiver: Receiver, now_ms: int) -> bool:
    past_ms = receiver.limits.past_ms
    return past_ms is not None and now_ms - export.sold.start_ms > past_ms - MARGIN_MS
