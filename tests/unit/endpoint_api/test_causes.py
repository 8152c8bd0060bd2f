"""Why an endpoint is pending: every reason that a service tells is mapped, ranked, and answered with what helps."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

import pytest

from libs.common.events import capacity, route, runtime
from libs.common.events.endpoint import Scaling, Stage
from libs.model_fetch.reasons import Reason as Fetched
from services.capacity_manager.core.reasons import Reason
from services.endpoint_api.core.causes import REASONS, Code, causes_of, code_of
from services.endpoint_api.core.decide import decide
from services.endpoint_api.core.lifecycle import CAPACITY_MS, RECORD_MS
from services.router.core.outside import Fault, Obstacle
from services.runtime_deployer.core.trouble import FINAL_FETCH, PATIENCE_MS, SAID
from tests.unit.endpoint_api.given import CATALOGUE, NOW, PROGRESS, an_endpoint, tellings, told, woke

# What the deployer says besides its tables: of crashes, of fetches, of templates.
SAID_IN_CODE: Final = frozenset(
    {"CrashLoopBackOff", "ErrorRate", "ModelFetchFailed", "OOMKilled", "NoReplicaReady", "TemplateUnknown"}
)
OWNERS_TELL: Final = {
    *map(str, [*Reason, *Fault, *Obstacle]),
    *PATIENCE_MS,
    *FINAL_FETCH,
    *SAID.values(),
    *map(str, Fetched),
} - {""}
TOLD: Final = {*OWNERS_TELL, *SAID_IN_CODE, "DeadlinePassed"}


@pytest.mark.parametrize("reason", sorted(TOLD))
def test_every_reason_that_a_service_tells_is_mapped(reason: str) -> None:
    assert reason in REASONS


def test_a_reason_of_a_newer_build_passes_through() -> None:
    failed = told(capacity.CapacityFailed(reason="MoonFull", message="the moon is full"), sequence=2)

    (cause,) = causes_of(an_endpoint(failed), CATALOGUE, NOW)

    assert (cause.code, cause.reason, cause.message) == (Code.OTHER, "MoonFull", "the moon is full")
    assert code_of("AwaitingCapacityQueued")[0] is Code.WORKING


def test_no_capacity_offers_fewer_replicas_other_regions_and_tiers_that_fit() -> None:
    waiting = told(capacity.CapacityWaiting(reason="NoCapacity", message="all are taken"), sequence=2)
    endpoint = an_endpoint(told(PROGRESS[0]), waiting)
    assert endpoint.spec is not None
    endpoint = replace(endpoint, spec=endpoint.spec.model_copy(update={"scaling": Scaling(min=2, max=2)}))

    (cause,) = causes_of(endpoint, CATALOGUE, NOW)

    assert (cause.code, cause.waiting_on) == (Code.NO_CAPACITY, "operator")
    assert [dict(each.spec) for each in cause.offers] == [
        {"scaling.min": 1}, {"region": "us-1"}, {"tier": "h100-dedicated"}, {"tier": "h100-private"},
        {"tier": "l40s-tenant"},
    ]  # fmt: skip


def test_a_tier_that_the_tenant_may_not_use_is_not_offered() -> None:
    closed = replace(
        CATALOGUE, tiers=tuple(replace(each, open=each.name == "l40s-dedicated") for each in CATALOGUE.tiers)
    )
    waiting = told(capacity.CapacityWaiting(reason="NoCapacity", message="all are taken"), sequence=2)

    (cause,) = causes_of(an_endpoint(told(PROGRESS[0]), waiting), closed.for_tenant(()), NOW)

    assert all("tier" not in each.spec for each in cause.offers)
    assert cause.offers


def test_a_quota_says_to_free_something() -> None:
    waiting = told(capacity.CapacityWaiting(reason="QuotaExceeded", message="no more"), sequence=2)

    (cause,) = causes_of(an_endpoint(told(PROGRESS[0]), waiting), CATALOGUE, NOW)

    assert (cause.code, cause.waiting_on, cause.offers[0].action) == (Code.QUOTA, "you", "free_quota")


def test_a_gated_model_offers_another() -> None:
    failed = told(runtime.RuntimeFailed(reason="ModelGated", message="accept its licence"), sequence=2)

    (cause,) = causes_of(an_endpoint(failed), CATALOGUE, NOW)

    assert cause.code is Code.MODEL_GATED
    assert [dict(each.spec) for each in cause.offers] == [{"model": "millrace/ngram-1-large"}]


def test_behind_a_deadline_is_what_was_waited_for_and_it_comes_first() -> None:
    waiting = told(capacity.CapacityWaiting(reason="NoCapacity", message="all are taken"), sequence=2)
    due_ms = NOW + CAPACITY_MS
    endpoint = an_endpoint(told(PROGRESS[0]), waiting)
    late = decide(endpoint, woke(due_ms), due_ms).state

    causes = causes_of(late, CATALOGUE, due_ms)

    assert [each.code for each in causes] == [Code.NO_CAPACITY, Code.DEADLINE]


def test_an_endpoint_that_serves_has_no_cause_and_one_that_begins_has_its_worker() -> None:
    serving = an_endpoint(*tellings(PROGRESS))
    begun = an_endpoint()

    assert causes_of(serving, CATALOGUE, NOW) == ()
    assert [each.code for each in causes_of(begun, CATALOGUE, NOW)] == [Code.WORKING]
    assert causes_of(begun, CATALOGUE, NOW)[0].waiting_on == "capacity-manager"
    assert Code.DEADLINE in [each.code for each in causes_of(begun, CATALOGUE, NOW + RECORD_MS)]


def test_a_route_that_nobody_can_use_yet_says_why_until_it_is_published() -> None:
    waiting = told(route.RouteWaiting(reason="DnsNotReady", message="its name does not resolve"), sequence=3)
    warm = tuple(told(each, sequence=2) for each in PROGRESS[:-1])
    endpoint = an_endpoint(*warm, waiting)
    serving = an_endpoint(*warm, waiting, told(route.RoutePublished(url="http://router/v1"), sequence=4))

    (cause,) = causes_of(endpoint, CATALOGUE, NOW)

    assert (endpoint.stage, serving.stage) == (Stage.PUBLISHING_ROUTE, Stage.READY)
    assert (cause.code, cause.reason, cause.waiting_on) == (Code.DNS, "DnsNotReady", "router")
    assert causes_of(serving, CATALOGUE, NOW) == ()
