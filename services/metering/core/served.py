"""What a router's batch tells each endpoint's meter: the windows that got entries, so that they are told again."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from libs.common.events.route import RequestUsage, UsageReported
from libs.common.events.usage import CutStream
from services.metering.core.decide import Served
from services.metering.core.intake import flaw_of
from services.metering.core.state import Dimensions
from services.metering.core.windows import Windows

DRAIN_CUT: Final = "drain_cut"  # How a router says that an answer was ended at a drain deadline.


def served_by_endpoint(batch: UsageReported, windows: Windows) -> Mapping[str, Served]:
    """By endpoint: each window that a billable request ended in, once; of what was sold in it, the last; and cuts."""
    touched: dict[str, dict[tuple[int, str, str], RequestUsage]] = {}
    cut: dict[str, list[CutStream]] = {}
    for each in batch.requests:
        if flaw_of(each) is None:
            place = (windows.start_of(each.ended_ms), each.tenant_id, each.project_id)
            touched.setdefault(each.endpoint_id, {})[place] = each
            if each.finish == DRAIN_CUT:
                cut.setdefault(each.endpoint_id, []).append(_cut(each))
    return {
        endpoint: Served(
            windows=tuple((place[0], _sold(found[place])) for place in sorted(found)), cut=tuple(cut.get(endpoint, ()))
        )
        for endpoint, found in touched.items()
    }


def _cut(usage: RequestUsage) -> CutStream:
    return CutStream(
        request_id=usage.request_id,
        generation=usage.generation,
        completion_tokens=usage.completion_tokens,
        ended_ms=usage.ended_ms,
    )


def _sold(usage: RequestUsage) -> Dimensions:
    return Dimensions(
        tenant_id=usage.tenant_id,
        project_id=usage.project_id,
        endpoint_id=usage.endpoint_id,
        generation=usage.generation,
        model=usage.model,
        tier=usage.tier,
        region=usage.region,
        tenancy=usage.tenancy or "",
    )
