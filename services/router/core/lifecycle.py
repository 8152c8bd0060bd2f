"""The lifecycle of a route, as a table."""

from __future__ import annotations

from enum import StrEnum
from typing import Final

from libs.common.desire import ENDS
from libs.common.events.facts import Fact
from libs.common.lifecycle import Lifecycle, Row


class RouteStage(StrEnum):
    """Where a route stands."""

    UNHEARD = "unheard"  # Something was heard of the endpoint, but not yet who asked for it.
    WAITING = "waiting"
    PUBLISHING = "publishing"
    PUBLISHED = "published"
    DRAINING = "draining"
    WITHDRAWN = "withdrawn"


SERVING: Final = frozenset({RouteStage.PUBLISHING, RouteStage.PUBLISHED})
LEAVING: Final = frozenset({RouteStage.DRAINING, RouteStage.WITHDRAWN})

_EXITS: Final = tuple(
    Row(stage, fact, RouteStage.DRAINING)
    for stage in (RouteStage.UNHEARD, RouteStage.WAITING, RouteStage.PUBLISHING, RouteStage.PUBLISHED)
    for fact in ENDS
)

ROUTE: Final = Lifecycle(
    start=RouteStage.UNHEARD,
    rows=(
        *_EXITS,  # First: whoever is to go does not pass through being published.
        Row(RouteStage.UNHEARD, Fact.REQUESTED, RouteStage.WAITING, "endpoint-api"),
        Row(RouteStage.WAITING, Fact.CACHE_WARMED, RouteStage.PUBLISHING, "runtime-deployer"),
        Row(RouteStage.PUBLISHING, Fact.ROUTE_PUBLISHED, RouteStage.PUBLISHED, "router"),
        Row(RouteStage.DRAINING, Fact.ROUTE_WITHDRAWN, RouteStage.WITHDRAWN, "router"),
    ),
)
