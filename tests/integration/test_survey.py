"""The survey against the twin: what a mark follows, and that claims at rest cost three lists and nothing else."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx
import pytest

from libs.common.errors import Unavailable
from libs.twin.answers import Response
from libs.twin.inprocess import WorldTransport
from libs.twin.options import DEFAULT_KEY
from services.capacity_manager.core.lifecycle import Stage
from services.capacity_manager.shell.platform import Platform, PlatformClient
from tests.integration.test_capacity_manager_twin import Rig
from tests.unit.capacity_manager.builders import ENDPOINT, requested, scaled

ROOT = "/kubernetes/management/apis/management.loft.sh/v1"
OTHER = "ep-two"


class Seen(WorldTransport):
    """A way to the twin that notes what was asked."""

    asked: list[str]

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        self.asked.append(f"{request.method} {request.url.path.removeprefix(ROOT)}")
        return super().handle_request(request)


@pytest.fixture
def rig(tmp_path: Path) -> Rig:
    """Two endpoints of one project, at rest."""
    rig = Rig(tmp_path / "key")
    rig.hear(requested())
    rig.hear(requested(), subject=OTHER)
    rig.until(lambda: rig.stage() is Stage.HELD and rig.stage(OTHER) is Stage.HELD)
    rig.rest(for_ms=3_000)
    return rig


def a_platform(rig: Rig) -> tuple[Platform, Seen]:
    transport = Seen(rig.world)
    transport.asked = []
    client = PlatformClient(url="http://twin", key_file=rig.key_file, transport=transport)
    return Platform(client), transport


def marks(rig: Rig) -> dict[str, str]:
    return dict(a_platform(rig)[0].survey().marks)


def patch(rig: Rig, path: str, body: str) -> None:
    headers = {"authorization": f"Bearer {DEFAULT_KEY}", "content-type": "application/merge-patch+json"}
    assert rig.world.request("PATCH", f"{ROOT}{path}", {}, headers, body.encode()).status == 200


def changed(before: dict[str, str], after: dict[str, str]) -> set[str]:
    return {key for key in before if before[key] != after.get(key)}


def test_a_survey_names_what_stands_and_whose_it_is(rig: Rig) -> None:
    platform, transport = a_platform(rig)

    survey = platform.survey()

    assert [(each.endpoint_id, each.tenant_id, each.project_id) for each in survey.standing] == [
        (ENDPOINT, "acme", "prod"),
        (OTHER, "acme", "prod"),
    ]
    assert transport.asked == [
        "GET /projects",
        "GET /nodeclaims",
        "GET /virtualclusterinstances",
        "POST /selves",
    ]


def test_marks_stay_while_nothing_changes(rig: Rig) -> None:
    before = marks(rig)

    rig.rest(for_ms=60_000)

    assert marks(rig) == before


def test_a_mark_follows_its_own_cluster_and_no_other(rig: Rig) -> None:
    before = marks(rig)

    patch(
        rig, f"/namespaces/p-mr-acme-prod/virtualclusterinstances/{OTHER}", '{"metadata": {"annotations": {"a": "b"}}}'
    )

    assert changed(before, marks(rig)) == {OTHER}


def test_a_mark_follows_its_nodes(rig: Rig) -> None:
    before = marks(rig)

    rig.world.set_faults({"lost_nodes": 1})
    rig.world.advance()

    assert len(changed(before, marks(rig))) == 1


def test_a_mark_follows_what_its_project_allows(rig: Rig) -> None:
    before = marks(rig)

    patch(rig, "/projects/mr-acme-prod", '{"spec": {"allowedNodeTypes": []}}')

    assert changed(before, marks(rig)) == {ENDPOINT, OTHER}


def test_a_neighbour_that_grows_does_not_have_others_looked_at(rig: Rig) -> None:
    before = marks(rig)

    rig.hear(scaled(2), subject=OTHER)
    rig.rest(for_ms=20_000)

    assert changed(before, marks(rig)) == {OTHER}


def test_a_survey_of_which_any_part_is_unknown_is_none(rig: Rig) -> None:
    platform, _ = a_platform(rig)
    rig.world.set_faults({"unavailable_calls": 1})

    with pytest.raises(Unavailable):
        platform.survey()


def test_claims_at_rest_cost_three_lists_a_pass(rig: Rig, monkeypatch: Any) -> None:
    asked: list[str] = []
    answer = rig.world.request

    def request(*args: Any) -> Response:
        asked.append(args[1])
        return answer(*args)

    monkeypatch.setattr(rig.world, "request", request)

    rig.rest(for_ms=10_000)

    assert {each.removeprefix(ROOT) for each in asked} == {"/projects", "/nodeclaims", "/virtualclusterinstances"}
