"""Usage by any dimension: sums of the ledger put together by what they are asked by, as whole numbers.

Quantities of different meters are never added to one another, so every answer is by meter too.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from types import MappingProxyType
from typing import Final

from libs.common.errors import Invalid
from libs.common.store.port import Sum
from libs.common.units import DAY_MS, HOUR_MS
from services.metering.core.accounts import parts_of
from services.metering.core.labels import labels_of

EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


class By(StrEnum):
    """What usage can be asked by; hours and days are those of UTC."""

    TENANT = "tenant"
    PROJECT = "project"
    ENDPOINT = "endpoint"
    MODEL = "model"
    GENERATION = "generation"
    TIER = "tier"
    CLASS = "class"
    REGION = "region"
    TENANCY = "tenancy"
    KEY = "key"
    ADAPTER = "adapter"
    METER = "meter"
    ACCOUNT = "account"
    HOUR = "hour"
    DAY = "day"


INTERVALS_MS: Final = MappingProxyType({By.HOUR: HOUR_MS, By.DAY: DAY_MS})


def read_by(text: str) -> tuple[By, ...]:
    """The dimensions in a list with commas, each once. Raises Invalid for one that is none, or two intervals."""
    try:
        found = tuple(dict.fromkeys(By(each.strip()) for each in text.split(",")))
    except ValueError:
        raise Invalid(f"usage can be grouped by {', '.join(By)}; name some of them, with commas") from None
    if len(INTERVALS_MS.keys() & found) > 1:
        raise Invalid("group by hour or by day, not by both")
    return found


def interval_ms(by: Iterable[By]) -> int | None:
    """How long the intervals asked for are; None if time is not asked by."""
    return next((INTERVALS_MS[each] for each in by if each in INTERVALS_MS), None)


def broken_down(sums: Iterable[Sum], by: Sequence[By]) -> tuple[tuple[dict[str, str], str, int], ...]:
    """Each group, with a meter and its quantity, in order of group and meter; what is not known of a line is empty."""
    found: dict[tuple[tuple[str, ...], str], int] = {}
    for each in sums:
        said = said_of(each)
        place = (tuple(said[name] for name in by), each.meter)
        found[place] = found.get(place, 0) + each.quantity
    return tuple(
        (dict(zip(by, group, strict=True)), meter, found[group, meter])
        for group, meter in sorted(found)
        if found[group, meter]  # All of it was taken back: nothing was used.
    )


def said_of(found: Sum) -> dict[By, str]:
    """What a sum says of itself in each dimension."""
    root, account = parts_of(found.account)
    tenant, project, endpoint = root.split("/")
    labels = labels_of(found.labels)
    start = (EPOCH + timedelta(milliseconds=found.start_ms)).isoformat().replace("+00:00", "Z")
    return {
        By.TENANT: tenant,
        By.PROJECT: project,
        By.ENDPOINT: endpoint,
        By.MODEL: labels.model,
        By.GENERATION: str(labels.generation or ""),
        By.TIER: labels.tier,
        By.CLASS: labels.node_class,
        By.REGION: labels.region,
        By.TENANCY: labels.tenancy,
        By.KEY: labels.key,
        By.ADAPTER: labels.adapter,
        By.METER: found.meter,
        By.ACCOUNT: account,
        By.HOUR: start,
        By.DAY: start,
    }
