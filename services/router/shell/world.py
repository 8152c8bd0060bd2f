"""The data plane as the reconciler of routes sees it, from inside and, before a route is told of, from outside."""

from __future__ import annotations

from typing import assert_never

from libs.common.errors import Unavailable
from libs.common.events.tables import RouteEntry
from services.router.core.lifecycle import RouteStage
from services.router.core.outside import hindrance
from services.router.core.plan import CutStreams
from services.router.core.state import Route, RouteSeen
from services.router.shell.ports import DataPlane, Outside


class RoutesInPlace:
    """Looks into the data plane's table and at the endpoint from outside, and ends requests in the table."""

    def __init__(self, data_plane: DataPlane, outside: Outside) -> None:
        self._data_plane = data_plane
        self._outside = outside

    def observe(self, state: Route) -> RouteSeen:
        """What the table says; of a draining route also what still runs, of one to be told of how it looks outside.

        Raises Unavailable, with the reason, while a client could not use what the table holds already.
        """
        held = self._data_plane.held(state.endpoint_id)  # Before `live`: what is not let in any more can't begin.
        if state.stage is not RouteStage.DRAINING:
            return RouteSeen(
                stage=state.stage,
                generation=state.generation,
                held=held,
                is_lost=self._data_plane.is_lost(state.endpoint_id),
                is_met_outside=self._is_met_outside(state, held),
            )
        return RouteSeen(
            stage=state.stage,
            generation=state.generation,
            held=held,
            is_idle=self._data_plane.live(state.endpoint_id) == 0,
            streams_cut=self._data_plane.streams_cut(state.endpoint_id),
        )

    def _is_met_outside(self, state: Route, held: RouteEntry | None) -> bool:
        if state.stage is not RouteStage.PUBLISHING or held is None or held.generation != state.generation:
            return False
        found = hindrance(self._outside.look(held))
        if found is not None:
            raise Unavailable(found.message, code=found.reason)
        return True

    def apply(self, action: CutStreams) -> None:
        """Do one thing; doing it again changes nothing."""
        if isinstance(action, CutStreams):
            self._data_plane.cut(action.endpoint_id)
        else:
            assert_never(action)
