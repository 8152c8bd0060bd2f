"""Snapshots of a tenant cluster: those that its schedule has had taken by now, less what is kept no longer.

Computed when asked for, of a schedule `minute hour * * *` or `minute * * * *`; of any other none is ever taken.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Final

import yaml

from libs.common.units import DAY_MS, HOUR_MS, MINUTE_MS
from libs.twin import kinds
from libs.twin.objects import Json, name_of, timestamp, uid_of

TAKEN_MAX: Final = 1_000  # Looked back on, however often they are taken.


def told_of(instance: Json, now_ms: int) -> Json:
    """The answer of the subresource `snapshot`."""
    values = ((instance["status"].get("virtualCluster") or {}).get("helmRelease") or {}).get("values") or ""
    auto = ((yaml.safe_load(values) or {}).get("snapshots") or {}).get("auto")
    return {
        "kind": "VirtualClusterInstanceSnapshot",
        "apiVersion": f"{kinds.LOFT}/v1",
        "metadata": {"name": name_of(instance)},
        "status": {"snapshotTaken": list(_taken(instance, auto, now_ms)) if auto else None},
    }


def _taken(instance: Json, auto: Json, now_ms: int) -> Iterator[Json]:
    began_ms = round(datetime.fromisoformat(instance["metadata"]["creationTimestamp"]).timestamp() * 1000)
    retention = auto.get("retention") or {}
    oldest_ms = max(began_ms, now_ms - int(retention.get("period", 30)) * DAY_MS)
    kept = [at_ms for at_ms in _times(auto["schedule"], now_ms) if oldest_ms <= at_ms]
    url = auto["storage"]["s3"]["url"].rstrip("/")
    for at_ms in kept[: int(retention.get("maxSnapshots", TAKEN_MAX))]:
        name = f"{name_of(instance)}-{at_ms // 1000}"
        yield {
            "id": f"{uid_of(instance)}-{at_ms // 1000}",
            "url": f"{url}/{name_of(instance)}/{name}.tar.gz",
            "timestamp": timestamp(at_ms),
            "reason": "Scheduled",
            "status": "Completed",
        }


def _times(schedule: str, now_ms: int) -> Iterator[int]:
    """When it was due, the latest first; in UTC, like every clock here."""
    minute, hour, *rest = schedule.split()
    if rest != ["*", "*", "*"] or not minute.isdigit() or not (hour.isdigit() or hour == "*"):
        return
    midnight = datetime.fromtimestamp(now_ms / 1000, UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    step_ms = HOUR_MS if hour == "*" else DAY_MS
    at_ms = round(midnight.timestamp() * 1000) + int(minute) * MINUTE_MS
    at_ms += (23 if hour == "*" else int(hour)) * HOUR_MS
    for _ in range(TAKEN_MAX):
        if at_ms <= now_ms:
            yield at_ms
        at_ms -= step_ms
