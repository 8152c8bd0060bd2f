"""Reading all that is reconciled: the provider's node claims, our records, and what each export says was accepted."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from typing import Any, Final

from libs.common.errors import Invalid
from libs.common.telemetry.logging import fields
from services.metering.core import reconcile
from services.metering.core.exports.state import Sold
from services.metering.core.reconcile import Claim, Finding, Side
from services.metering.core.state import Window
from services.metering.shell import metrics
from services.metering.shell.audit import audit, meters, producers, told_windows
from services.metering.shell.closing import Closing
from services.metering.shell.exporting import Exporting
from services.metering.shell.ports import Ports

log = logging.getLogger(__name__)

Json = dict[str, Any]

JOINED: Final = "Joined"


def findings(
    ports: Ports,
    closing: Closing,
    exports: Sequence[Exporting],
    claims: Iterable[Claim] | None,
    since_ms: int = 0,
) -> tuple[Finding, ...]:
    """Every difference; those with the provider only if its claims are given, of lines those from ``since_ms`` on."""
    known = list(meters(ports.store))
    waiting = frozenset((mark.dimensions.root, mark.start_ms) for each in known for mark in each.marked)
    told = [each for each in told_windows(ports.store) if each.start_ms >= since_ms]
    return (
        *(() if claims is None else reconcile.capacity(known, claims, now_ms=ports.clock.now_ms())),
        *reconcile.ledger(audit(ports.store, windows=ports.windows, from_ms=ports.windows.start_of(since_ms)), waiting),
        *(found for each in exports for found in _accepted(each, told)),
        *reconcile.routers(producers(ports.store)),
        *reconcile.stated(closing.broken()),
    )


def show(find: Callable[[], tuple[Finding, ...]]) -> None:
    """Reconcile, and have what lasts seen: a log line each, and the metric that an alert stands on."""
    lasting = [each for each in find() if not each.is_passing]
    for side in Side:
        metrics.RECONCILE_DIFFERENCES.labels(side=side).set(sum(each.side is side for each in lasting))
    for each in lasting:
        log.warning(
            "accounts differ", extra=fields(reason=f"{each.what}: {each.ours}, not {each.theirs}: {each.cause}")
        )


def claims_in(text: str) -> list[Claim]:
    """The joined node claims in a list as `kubectl get nodeclaims -A -o json` writes it. Raises Invalid."""
    try:
        found = json.loads(text)
        if not str(found["kind"]).endswith("List"):
            raise ValueError(found["kind"])
        return [claim for each in found["items"] or () if (claim := _claim(each)) is not None]
    except (ValueError, KeyError, TypeError, AttributeError) as wrong:
        raise Invalid(f"this is no list of node claims ({wrong}): kubectl get nodeclaims -A -o json") from None


def _claim(document: Json) -> Claim | None:
    conditions = (document.get("status") or {}).get("conditions") or ()
    joined = next((each for each in conditions if each.get("type") == JOINED and each.get("status") == "True"), None)
    if joined is None:
        return None
    when = datetime.fromisoformat(joined["lastTransitionTime"])
    return Claim(str(document["metadata"]["name"]), round(when.timestamp() * 1000))


def _accepted(export: Exporting, told: Iterable[Window]) -> tuple[Finding, ...]:
    since_ms = export.since_ms
    theirs = [each for each in told if each.start_ms >= since_ms and export.receiver.code_of(_sold(each)) is not None]
    return reconcile.accepted(export.receiver.name, theirs, export.records())


def _sold(window: Window) -> Sold:
    """What of a window its code depends on."""
    return Sold(model=window.model, meter=window.meter, account=window.account)
