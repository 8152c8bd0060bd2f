"""The data plane as the reconciler of routes sees it."""

from __future__ import annotations

from typing import assert_never

from services.router.core.lifecycle import RouteStage
from services.router.core.plan import CutStreams
from services.router.core.state import Route, RouteSeen
from services.router.shell.ports import DataPlane


class RoutesInPlace:
    """Looks into the data plane's table, and ends requests in it."""

    def __init__(self, data_plane: DataPlane) -> None:
        self._data_plane = data_plane

    def observe(self, state: Route) -> RouteSeen:
        """What the table says; of a draining route also what still runs."""
        held = self._data_plane.held(state.endpoint_id)  # Before `live`: what is not let in any more can't begin.
        if state.stage is not RouteStage.DRAINING:
            is_lost = self._data_plane.is_lost(state.endpoint_id)
            return RouteSeen(stage=state.stage, generation=state.generation, held=held, is_lost=is_lost)
        return RouteSeen(
            stage=state.stage,
            generation=state.generation,
            held=held,
            is_idle=self._data_plane.live(state.endpoint_id) == 0,
            streams_cut=self._data_plane.streams_cut(state.endpoint_id),
        )

    def apply(self, action: CutStreams) -> None:
        """Do one thing; doing it again changes nothing."""
        if isinstance(action, CutStreams):
            self._data_plane.cut(action.endpoint_id)
        else:
            assert_never(action)
