"""What has to be done to the data plane so that a route can go: at the drain deadline, cut what still runs."""

from __future__ import annotations

from dataclasses import dataclass

from services.router.core.lifecycle import RouteStage
from services.router.core.state import Route, RouteSeen


@dataclass(frozen=True, slots=True)
class CutStreams:
    """End the endpoint's live requests now; each is billed for what was delivered."""

    endpoint_id: str


def plan(route: Route, seen: RouteSeen, now_ms: int) -> tuple[CutStreams, ...]:
    """The route's next steps; none while streams may still run, and none while new ones could come in."""
    if route.stage is not RouteStage.DRAINING or route.drain_deadline_ms is None:
        return ()
    if seen.lets_in or seen.is_idle or now_ms < route.drain_deadline_ms:
        return ()
    return (CutStreams(route.endpoint_id),)
