"""Quotas: whatever is asked in whatever order, the counters are the sum over what is there, and never over a limit."""

from __future__ import annotations

from typing import Final

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from libs.common.decision import Give, Take
from libs.common.errors import QuotaExceeded
from libs.common.events.endpoint import Scaling
from libs.common.events.tenant import Quota, Quotas
from libs.common.store.memory import MemoryStore
from services.endpoint_api.core import quotas
from services.endpoint_api.core.caller import Ask
from services.endpoint_api.core.quotas import Holding, changes, covering, holding
from tests.unit.endpoint_api.given import PLACEMENT, SPEC, Stand, a_caller

L40S: Final = "terraform.gpu-l40s"
H100: Final = "metal3.gpu-h100"
TWO: Final = holding(SPEC.model_copy(update={"scaling": Scaling(max=2)}), PLACEMENT)


def move(before: Holding | None, after: Holding | None, both: Quotas | None = None) -> tuple[Take | Give, ...]:
    """The moves in the project main of acme."""
    return changes(both, tenant_id="acme", project_id="main", before=before, after=after)


def test_an_endpoint_holds_its_place_its_replicas_and_their_gpus() -> None:
    four = PLACEMENT.model_copy(update={"gpus_per_replica": 4, "node_type": H100})
    spec = SPEC.model_copy(update={"scaling": Scaling(min=1, max=3)})

    assert holding(spec, four) == Holding(1, 3, H100, 12)
    assert holding(spec, four, runs=False) == Holding(1, 0, H100, 0)


def test_a_create_takes_of_the_tenant_and_of_the_project() -> None:
    both = Quotas(tenant=Quota(endpoints=10, gpus={"*": 7}), project=Quota(replicas=5, gpus={L40S: 3, "*": 1}))

    assert move(None, TWO, both) == (
        Take("endpoints/acme", 1, 10),
        Take("endpoints/acme/main", 1, quotas.UNLIMITED),
        Take(f"gpus:{L40S}/acme", 2, 7),
        Take(f"gpus:{L40S}/acme/main", 2, 3),
        Take("replicas/acme", 2, quotas.UNLIMITED),
        Take("replicas/acme/main", 2, 5),
    )


def test_what_a_create_took_a_delete_gives() -> None:
    taken, given_back = move(None, TWO), move(TWO, None)

    assert [(each.counter, each.amount) for each in taken] == [(each.counter, each.amount) for each in given_back]
    assert all(isinstance(each, Give) for each in given_back)


def test_scaling_moves_the_difference_only() -> None:
    one = holding(SPEC, PLACEMENT)

    assert {(type(each), each.counter, each.amount) for each in move(one, TWO)} == {
        (Take, counter, 1)
        for counter in ("replicas/acme", "replicas/acme/main", f"gpus:{L40S}/acme", f"gpus:{L40S}/acme/main")
    }
    assert all(isinstance(each, Give) for each in move(TWO, one))
    assert move(TWO, TWO) == ()


def test_covering_is_enough_for_either() -> None:
    one = holding(SPEC, PLACEMENT)
    both = covering(one, TWO)

    assert not [each for each in (*move(both, one), *move(both, TWO)) if isinstance(each, Take)]


def test_moves_are_in_one_order_so_that_commits_never_wait_in_a_circle() -> None:
    other = Holding(1, 1, H100, 4)
    moves = [each.counter for each in move(TWO, other)]

    assert moves == sorted(moves)


@pytest.mark.parametrize(
    ("quota", "most", "field"),
    [
        (Quota(endpoints=5), Quota(endpoints=5), ""),
        (Quota(endpoints=6), Quota(endpoints=5), "endpoints"),
        (Quota(endpoints=6), Quota(), ""),
        (Quota(), Quota(endpoints=5), ""),
        (Quota(tokens_per_minute=2), Quota(tokens_per_minute=1), "tokens_per_minute"),
        (Quota(concurrency=2), Quota(concurrency=1), "concurrency"),
        (Quota(gpus={H100: 8}), Quota(gpus={H100: 4}), f"gpus.{H100}"),
        (Quota(gpus={H100: 8}), Quota(gpus={"*": 4}), f"gpus.{H100}"),
        (Quota(gpus={"*": 8}), Quota(gpus={"*": 4}), "gpus.*"),
        (Quota(gpus={H100: 8}), Quota(gpus={L40S: 4}), ""),
    ],
)
def test_a_projects_quota_is_above_the_tenants_in_this_field(quota: Quota, most: Quota, field: str) -> None:
    assert quotas.above(quota, most) == field


@pytest.mark.parametrize(
    ("counter", "says"),
    [
        ("endpoints/acme", "the tenant acme may have 10 endpoints and holds 9; this asks for 2 more"),
        (f"gpus:{H100}/acme/main", f"the project main may have 10 GPUs of {H100} and holds 9"),
        ("replicas/acme/main", "ask an owner of the tenant for a higher quota"),
        ("replicas/acme", "ask the operator for a higher quota"),
    ],
)
def test_a_refusal_names_the_quota_its_limit_what_is_held_and_what_to_do(counter: str, says: str) -> None:
    assert says in quotas.over(counter, wanted=2, limit=10, held=9)


def test_only_counters_of_quotas_are_told_in_their_words() -> None:
    assert quotas.is_quota("endpoints/acme")
    assert quotas.is_quota(f"gpus:{H100}/acme/main")
    assert not quotas.is_quota("keys/acme")


def test_over_the_verbs_the_refusal_has_the_numbers() -> None:
    stand = Stand(endpoints_max=1)
    stand.api.endpoints.create(Ask(a_caller(), "r1"), name="one", spec=SPEC)

    with pytest.raises(QuotaExceeded, match="the tenant acme may have 1 endpoints and holds 1; this asks for 1 more"):
        stand.api.endpoints.create(Ask(a_caller(), "r2"), name="two", spec=SPEC)


HOLDINGS: Final = st.none() | st.builds(
    Holding, st.just(1), st.integers(0, 4), st.sampled_from([H100, L40S]), st.integers(0, 16)
)
LIMITS: Final = st.none() | st.integers(0, 12)
QUOTAS: Final = st.builds(
    Quota,
    endpoints=LIMITS,
    replicas=LIMITS,
    gpus=st.dictionaries(st.sampled_from([H100, L40S, "*"]), st.integers(0, 40)),
)
STEPS: Final = st.lists(
    st.tuples(st.integers(0, 4), st.sampled_from(["main", "side"]), HOLDINGS, QUOTAS, QUOTAS), max_size=40
)


@given(steps=STEPS)
@settings(deadline=None)
def test_counters_are_the_sum_over_what_is_there_and_a_refused_change_moves_none(
    steps: list[tuple[int, str, Holding | None, Quota, Quota]],
) -> None:
    store = MemoryStore()
    there: dict[tuple[int, str], Holding] = {}
    for number, project, after, tenant_quota, project_quota in steps:
        limits = Quotas(tenant=tenant_quota, project=project_quota)
        before = there.get((number, project))
        moves = changes(limits, tenant_id="acme", project_id=project, before=before, after=after)
        if not apply(store, moves):
            continue
        there.pop((number, project), None)
        if after is not None:
            there[number, project] = after
        for taken in (each for each in moves if isinstance(each, Take)):
            assert store.counter(taken.counter) <= taken.limit

    for resource in (quotas.ENDPOINTS, quotas.REPLICAS, quotas.gpus_of(H100), quotas.gpus_of(L40S)):
        held = {key: each.resources()[resource] for key, each in there.items()}
        assert store.counter(quotas.counter_of(resource, tenant_id="acme")) == sum(held.values())
        for project in ("main", "side"):
            counter = quotas.counter_of(resource, tenant_id="acme", project_id=project)
            assert store.counter(counter) == sum(amount for (_, of), amount in held.items() if of == project)


class Refused(Exception):
    """A counter would pass its limit."""


def apply(store: MemoryStore, moves: tuple[Take | Give, ...]) -> bool:
    """All moves in one unit of work, or none."""
    try:
        with store.transaction() as unit:
            for each in moves:
                if isinstance(each, Give):
                    unit.give(each.counter, each.amount)
                elif not unit.take(each.counter, each.amount, each.limit):
                    raise Refused
    except Refused:
        return False
    return True
