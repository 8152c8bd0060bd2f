"""The status and the plan with what was learned, from the store: nothing is invented, and a list stays cheap."""

from __future__ import annotations

import pytest

from libs.common.events.endpoint import Stage
from libs.common.store.port import Record
from services.endpoint_api.core.caller import Ask
from services.endpoint_api.core.eta import SAMPLES_MIN
from services.endpoint_api.core.planning import PlanView
from services.endpoint_api.core.shown import rfc3339
from services.endpoint_api.core.status import OperationView
from tests.unit.endpoint_api.given import PROGRESS, SPEC, Stand, a_caller


def ask(key: str, *, dry_run: bool = False) -> Ask:
    """An ask of the usual caller."""
    return Ask(a_caller(), key, key, dry_run=dry_run)


def live_through(stand: Stand, *, creates: int, step_ms: int) -> None:
    """Endpoints that came to be ready, each stage in the same time, and what is learned of that."""
    for count in range(creates):
        made = stand.api.endpoints.create(ask(f"c{count}"), name=f"chat-{count}", spec=SPEC)
        assert isinstance(made, OperationView)
        for index, event in enumerate(PROGRESS):
            stand.clock.advance(step_ms)
            stand.hear(made.endpoint_id, (event,), first=index + 1)
    while stand.api.learner.run():
        pass


def test_a_dry_run_says_how_long_the_like_took_once_enough_were_seen() -> None:
    stand = Stand()
    unknown = stand.api.endpoints.create(ask("d", dry_run=True), name="next", spec=SPEC)
    live_through(stand, creates=SAMPLES_MIN, step_ms=1_000)

    fresh = stand.api.endpoints.create(ask("d", dry_run=True), name="next", spec=SPEC)
    scaled = stand.api.endpoints.scale(ask("s", dry_run=True), "chat-0", scaling={"max": 2})
    paused = stand.api.endpoints.pause(ask("p", dry_run=True), "chat-0")

    assert isinstance(unknown, PlanView)
    assert (unknown.ready_in_s_p50, unknown.ready_in_s_p90) == (None, None)
    assert isinstance(fresh, PlanView)
    assert (fresh.ready_in_s_p50, fresh.ready_in_s_p90) == (len(PROGRESS), len(PROGRESS))
    assert isinstance(scaled, PlanView)
    assert scaled.ready_in_s_p50 == 0
    assert isinstance(paused, PlanView)
    assert paused.ready_in_s_p50 is None


def test_a_list_reads_what_was_learned_once_however_long_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    stand = Stand(endpoints_max=50)
    live_through(stand, creates=SAMPLES_MIN, step_ms=1_000)
    for count in range(20):
        stand.api.endpoints.create(ask(f"more-{count}"), name=f"more-{count}", spec=SPEC)
    stand.clock.advance(250)
    loads: list[str] = []
    load = stand.store.load

    def counted(kind: str, key: str) -> Record | None:
        loads.append(kind)
        return load(kind, key)

    monkeypatch.setattr(stand.store, "load", counted)

    page = stand.api.endpoints.list(a_caller())

    pending = [each for each in page.items if each.status.stage is Stage.REQUESTED]
    one = stand.api.endpoints.get(a_caller(), "more-7")
    assert len(pending) == 20
    assert one in pending  # A list says all that one says.
    assert one.status.ready_eta_p50_at == rfc3339(stand.clock.now_ms() + len(PROGRESS) * 1_000 - 250)
    present, *coming = one.status.stages
    assert (present.eta_p50_ms, {each.eta_p90_ms for each in coming}) == (750, {1_000})
    assert loads.count("durations") == 2 * 2  # The tier with the model, and the tier; in two requests.
    assert loads.count("tenant") <= 2
