"""Quotas under concurrency: real threads through the real verbs, on SQLite and on PostgreSQL: exactly the limit."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import pytest
from pydantic import JsonValue

from libs.common.clock import SystemClock
from libs.common.errors import Conflict, QuotaExceeded
from libs.common.events.endpoint import EndpointSpec, Scaling
from libs.common.events.tenant import NO_LIMITS, Quota
from libs.common.ids import ProjectId, SystemEntropy, TenantId
from libs.common.store.sql import SqlStore
from services.endpoint_api.core.caller import Ask, Caller
from services.endpoint_api.core.identity import as_operator
from services.endpoint_api.service import build
from services.endpoint_api.shell.api import Api
from services.endpoint_api.shell.catalogue import read_catalogue
from services.endpoint_api.shell.ports import Ports
from tests.support.postgres import Postgres
from tests.support.threads import persistently, together

CATALOGUE: Final = read_catalogue(Path(__file__).parents[2] / "deploy/catalogue")
SPEC: Final = EndpointSpec(model="millrace/ngram-1", tier="l40s-dedicated", region="eu-1", scaling=Scaling(max=2))
EVERYTHING: Final = frozenset({"inference", "read", "manage"})
MANY: Final = 64
ROOT: Final = as_operator("root", "", None)


@pytest.fixture(params=["sqlite", "postgresql"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> SqlStore:
    """A database that is empty."""
    if request.param == "sqlite":
        return SqlStore(f"sqlite:///{tmp_path}/endpoint-api.db")
    server: Postgres = request.getfixturevalue("postgres")
    return SqlStore(server.new())


def a_caller(project: str = "main") -> Caller:
    """A developer of acme."""
    return Caller(TenantId("acme"), ProjectId(project), "user:corp:ada", EVERYTHING)


def an_api(store: SqlStore, quota: Quota) -> Api:
    """The verbs, with a tenant that has this quota."""
    ports = Ports(store, SystemClock(), CATALOGUE, SystemEntropy())
    api = Api(build(ports), ports)
    api.tenants.create(Ask(ROOT, "make"), "acme", display_name="Acme", tiers=[], quota=quota, projects=["main", "side"])
    return api


def tries(api: Api, number: int, project: str = "main") -> bool:
    """Whether a create was accepted; one whose answer is lost in a crowd is asked again with the same key."""
    name = f"n{number}"
    try:
        persistently(lambda: api.endpoints.create(Ask(a_caller(project), name, name), name=name, spec=SPEC))
    except QuotaExceeded:
        return False
    return True


@pytest.mark.parametrize(
    "quota",
    [Quota(endpoints=10), Quota(endpoints=MANY, replicas=21), Quota(endpoints=MANY, gpus={"*": 20})],
    ids=["endpoints", "replicas", "gpus"],
)
def test_sixty_four_creates_at_once_against_room_for_ten_make_ten(store: SqlStore, quota: Quota) -> None:
    api = an_api(store, quota)

    made = together(MANY, lambda number: tries(api, number))

    assert made.count(True) == 10
    assert len(api.endpoints.list(a_caller(), limit=200).items) == 10
    assert store.counter("endpoints/acme") == store.counter("endpoints/acme/main") == 10
    assert store.counter("replicas/acme") == 20
    assert store.counter("gpus:terraform.gpu-l40s/acme/main") == 20


def test_a_projects_quota_and_the_tenants_both_hold_when_two_projects_fill_at_once(store: SqlStore) -> None:
    api = an_api(store, Quota(endpoints=10))
    acting = Caller(TenantId("acme"), ProjectId(""), ROOT.actor, ROOT.scopes, ROOT.tenant_scopes)
    api.tenants.put_project(Ask(acting, "limit"), "side", quota=Quota(endpoints=3), is_new=False)

    together(MANY, lambda number: tries(api, number, "side" if number % 2 else "main"))

    in_side = len(api.endpoints.list(a_caller("side"), limit=200).items)
    in_main = len(api.endpoints.list(a_caller("main"), limit=200).items)
    assert in_side <= 3
    assert in_side + in_main == 10
    assert store.counter("endpoints/acme/side") == in_side


def test_a_project_is_not_taken_away_under_an_endpoint_that_is_being_made(store: SqlStore) -> None:
    api = an_api(store, NO_LIMITS)
    acting = Caller(TenantId("acme"), ProjectId(""), ROOT.actor, ROOT.scopes, ROOT.tenant_scopes)

    def one(number: int) -> bool:
        if number:
            return tries(api, number)
        try:
            persistently(lambda: api.tenants.remove_project(Ask(acting, "away", "away"), "main"))
        except Conflict:
            return False
        return True

    removed, *made = together(8, one)

    assert removed != any(made)


def test_sixty_four_updates_at_once_all_count_and_none_undoes_another(store: SqlStore) -> None:
    api = an_api(store, NO_LIMITS)
    api.endpoints.create(Ask(a_caller(), "make"), name="shared", spec=SPEC)

    def one(number: int) -> None:
        asked: dict[str, JsonValue] = (
            {"limits": {"requests_per_minute": 100 + number}}
            if number % 2
            else {"scaling": {"target_concurrency": 10 + number}}
        )
        api.endpoints.update(Ask(a_caller(), f"update-{number}"), "shared", changes=asked)

    together(MANY, one)

    found = api.endpoints.get(a_caller(), "shared")
    assert found.status.generation == 1 + MANY
    assert found.spec.limits.requests_per_minute in range(101, 100 + MANY, 2)
    assert found.spec.scaling.target_concurrency in range(10, 10 + MANY, 2)
