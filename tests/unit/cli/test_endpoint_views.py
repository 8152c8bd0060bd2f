"""What people see of an endpoint on its way: what is past, what is left, what holds it up; nothing nobody knows."""

from __future__ import annotations

from typing import Final

import pytest
from rich.table import Table

from libs.cli import stages
from libs.cli.endpoint_views import causes, describe, plan
from libs.cli.forecasts import about, left, now_of, ready_after
from libs.common.events import capacity
from services.endpoint_api.core.caller import Ask
from services.endpoint_api.core.planning import PlanView
from tests.unit.cli.endpoints_shown import each_took, explained, shown
from tests.unit.cli.test_output import drawn
from tests.unit.endpoint_api.given import NOW, PROGRESS, SPEC, TEARDOWN, Stand, a_caller, tellings
from tests.unit.endpoint_api.test_fit import LLAMA_8B, SPEC_OF_IT, sold
from tests.unit.endpoint_api.test_living import pause, resume

NO_CAPACITY: Final = capacity.CapacityWaiting(reason="NoCapacity", message="all L40S nodes of eu-1 are taken")
MINUTE: Final = 60_000


@pytest.mark.parametrize(
    ("took_ms", "said"),
    [
        (0, "less than a second"),
        (1_400, "about 1 s"),
        (89_900, "about 90 s"),
        (4 * MINUTE + 10_000, "about 4 min"),
        (91 * MINUTE, "about 1 h 30 min"),
        (119 * MINUTE, "about 2 h"),
    ],
)
def test_an_estimate_is_rounded_as_people_do(took_ms: int, said: str) -> None:
    assert about(took_ms) == said


def test_what_is_left_is_said_once_if_it_is_the_same_and_not_at_all_if_nobody_knows() -> None:
    assert left(5_000, 20_000) == "about 5 s left, at most about 20 s"
    assert left(5_000, 5_100) == "about 5 s left"
    assert left(None, None) == ""
    assert ready_after(5_000, 20_000) == "about 5 s, at most about 20 s"


def test_the_picture_has_what_is_past_what_is_now_and_what_comes() -> None:
    learned = each_took(10_000, 10_000, 10_000, 20_000, 30_000)
    lines = drawn(stages.picture(shown(PROGRESS[:3], elapsed_ms=4_000, learned=learned)))

    assert [each.split()[0] for each in lines if not each.startswith(" ")] == ["✓"] * 3 + ["▸"] + ["·"] * 7
    assert lines[3].endswith("joining nodes         4.0 s  about 6 s left, at most about 26 s")
    assert lines[4].strip() == "capacity-manager is at work; next: capacity nodes joined"
    assert lines[5].endswith("· preparing gpu                usually about 10 s")
    assert lines[-1].split()[:4] == ["·", "ready", "in", "about"]
    assert max(map(len, lines)) <= 100


def test_nothing_is_invented_where_too_little_was_seen() -> None:
    endpoint = shown(PROGRESS[:3], elapsed_ms=4_000)
    said = "\n".join(drawn(stages.picture(endpoint)) + drawn(describe(endpoint)))

    assert "about" not in said
    assert "usually" not in said
    assert "ready in" not in said
    assert "publishing route" in said


def test_a_stage_that_is_walked_again_is_shown_once() -> None:
    again = (*tellings(PROGRESS), pause(), *tellings(TEARDOWN, generation=2, first=20), resume())
    names = [each.split("  ")[0] for each in drawn(stages.picture(shown(again))) if each[:1] in "✓▸·●"]

    assert len(names) == len(set(names))
    assert [each for each in names if "paused" in each] == ["✓ paused"]
    assert names[-1] == "· ready"


def test_an_endpoint_that_waits_says_what_holds_it_up_and_what_would_help() -> None:
    endpoint = shown([PROGRESS[0], NO_CAPACITY], elapsed_ms=1_000, learned=each_took(*[5_000] * 5))
    lines = drawn(describe(endpoint))

    assert "held up by  all L40S nodes of eu-1 are taken" in lines
    assert any(each.startswith("would help  create it in us-1") for each in lines)
    assert any(each.startswith("ready in    about ") for each in lines)
    assert not any(each.startswith(("held up", "now", "ready in")) for each in drawn(describe(shown(PROGRESS))))


def test_time_is_the_services_own_when_it_answered() -> None:
    assert now_of(shown(PROGRESS[:3], elapsed_ms=4_567)).timestamp() * 1000 == NOW + 4_567


def test_an_explanation_ranks_causes_names_who_can_act_and_what_would_help() -> None:
    found = causes(explained([PROGRESS[0], NO_CAPACITY], learned=each_took(*[5_000] * 5)), NOW)

    assert isinstance(found, Table)
    lines = drawn(found)
    assert lines[0].split() == ["CAUSE", "WHAT", "WHO", "CAN", "ACT", "WHAT", "WOULD", "HELP"]
    assert lines[1].startswith("1  no capacity  all L40S nodes of eu-1 are taken")
    assert "the operator" in lines[1]
    assert "us-1" in "".join(lines)
    assert lines[-1].strip() == "ready in about 45 s"  # Nine stages are left.
    assert causes(explained(PROGRESS), NOW) == "nothing holds it up: it is ready"


def test_a_plan_is_read_without_braces() -> None:
    stand = Stand()
    stand.api.tenants.adopt("acme", "main")
    fresh = stand.api.endpoints.create(Ask(a_caller(), "d", "d", dry_run=True), name="chat", spec=SPEC)
    made = stand.api.endpoints.create(Ask(a_caller(), "c", "c"), name="chat", spec=SPEC)
    assert not isinstance(made, PlanView)
    stand.hear(made.endpoint_id, PROGRESS)
    paused = stand.api.endpoints.pause(Ask(a_caller(), "p", "p", dry_run=True), "chat")
    scaled = stand.api.endpoints.scale(Ask(a_caller(), "s", "s", dry_run=True), "chat", scaling={"max": 3})

    said = [drawn(plan(each.model_dump(mode="json"))) for each in (fresh, paused, scaled)]

    assert not any("{" in line or len(line) > 100 for lines in said for line in lines)
    assert said[0][0] == "would       create chat"
    assert said[0][-1] == "ready       nobody knows when: too few of the like were seen"
    assert "holds       1 replica and 1 GPU of the quota; now nothing" in said[0]
    assert said[1][-2:] == ["stages      pausing, paused", "ready       no: it comes to rest"]
    assert said[2][-2:] == ["stages      none: it is done at once", "ready       as it is now"]


def test_a_plan_and_an_endpoint_say_when_nothing_runs() -> None:
    stand = Stand()
    stand.api.tenants.adopt("acme", "main")
    ask, sleeps = Ask(a_caller(), "d", "d", dry_run=True), {"idle_to_zero_s": 300}
    made = stand.api.endpoints.create(Ask(a_caller(), "c", "c"), name="chat", spec=SPEC)
    planned = stand.api.endpoints.scale(ask, "chat", scaling=sleeps)
    stand.api.endpoints.scale(Ask(a_caller(), "s", "s"), "chat", scaling=sleeps)
    found = stand.api.endpoints.get(a_caller(), "chat")
    assert not isinstance(made, PlanView)

    assert "replicas    1 to 1, 8 requests each, none after 300 s without a request" in drawn(
        plan(planned.model_dump(mode="json"))
    )
    [line] = [each for each in drawn(describe(found.model_dump(mode="json"))) if each.startswith("replicas")]
    assert line.endswith("(min 1, max 1, none after 300 s without a request)")


def test_an_endpoint_says_what_it_takes_at_most() -> None:
    stand = Stand()
    stand.api.tenants.adopt("acme", "main")
    stand.api.endpoints.create(Ask(a_caller(), "c", "c"), name="chat", spec=SPEC)
    none = stand.api.endpoints.get(a_caller(), "chat").model_dump(mode="json")
    some = none | {"spec": none["spec"] | {"limits": {"requests_per_minute": 6_000, "concurrency": 8}}}

    assert "limits      none of its own" in drawn(describe(none))
    assert "limits      6,000 requests a minute, 8 at once" in drawn(describe(some))


def test_a_plan_says_what_a_gpu_would_hold_where_that_is_known() -> None:
    stand = Stand(catalogue=sold(LLAMA_8B))
    told = stand.api.endpoints.create(Ask(a_caller(), "d", "d", dry_run=True), name="chat", spec=SPEC_OF_IT)

    said = drawn(plan(told.model_dump(mode="json")))

    assert "memory      18.0 GiB of 40.5 GiB of each GPU, for requests of up to 192768 tokens" in said
