"""How replicas answer, of each endpoint whose replicas are being replaced: told to whoever decides if that goes on."""

from __future__ import annotations

from libs.common.events.route import ReplicaOutcomes
from services.router.shell.engines.table import RouteTable


def outcomes(table: RouteTable) -> dict[str, tuple[ReplicaOutcomes, ...]]:
    """By endpoint; of a replica that nothing was sent to, nothing is said."""
    return {
        target.entry.endpoint_id: tuple(
            ReplicaOutcomes(replica=seat.name, answered=seat.health.answers, failed=seat.health.faults)
            for seat in target.seats
            if seat.health.answers or seat.health.faults
        )
        for target in table.targets()
        if target.entry.replacing
    }
