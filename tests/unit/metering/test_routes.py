"""The read API: a key reads its own tenant's usage, line by line, and nothing else."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any
from urllib.parse import quote

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from libs.common.events.endpoint import Stage
from libs.common.events.route import BudgetDrawn, Draw
from libs.common.events.tables import KeyEntry, QuotaEntry
from libs.common.ids import SystemEntropy
from libs.common.key_news import learn_key
from libs.common.keys import Keyring, mint
from services.metering.core.breakdown import By
from services.metering.core.money import UNLIMITED
from services.metering.core.rating import ANY, Article, Price, PriceBook
from services.metering.shell.accounting import Accounts
from services.metering.shell.api import create_app
from services.metering.shell.budgeting import Budgets
from services.metering.shell.closing import Closing
from services.metering.shell.ports import Ports
from services.metering.shell.purse import Purses
from services.metering.shell.reconciling import findings
from services.metering.shell.routes import Reader
from tests.support.web import NO_TLS
from tests.unit.metering.world import ENDPOINT, T0, World, batch, envelope, joined, requested, staged, usage


@dataclass
class Api:
    """A client of the API with a ring of keys."""

    world: World
    ring: Keyring
    client: httpx.AsyncClient

    def key(
        self,
        tenant: str = "acme",
        scopes: tuple[str, ...] = ("read",),
        *,
        expires_at_ms: int | None = None,
        allowed_ips: tuple[str, ...] = (),
    ) -> str:
        """A new key, as the `keys` bucket tells it."""
        minted = mint(SystemEntropy())
        entry = KeyEntry(
            key_id=minted.key_id,
            sha256=minted.sha256,
            tenant_id=tenant,
            project_id="main",
            scopes=scopes,
            expires_at_ms=expires_at_ms,
            allowed_ips=allowed_ips,
        )
        learn_key(self.ring, minted.key_id, entry.model_dump_json().encode())
        return minted.plaintext

    async def get(self, path: str, key: str, **query: str) -> httpx.Response:
        """Ask."""
        return await self.client.get(path, params=query, headers={"authorization": f"Bearer {key}"})


@pytest.fixture
def api() -> Api:
    """An API over a world in which something was used."""
    world = World()
    world.hear(
        requested(),
        requested(tenant="globex", endpoint="ep-two"),
        staged(Stage.READY, since_ms=T0, sequence=2),
        joined("n1", at_ms=T0, sequence=1),
        batch([usage(f"r{number}") for number in range(5)]),
        batch([usage("x1", tenant="globex", endpoint="ep-two")], boot_seq=2),
    )
    world.pass_time(20)
    ring = Keyring()
    api = Api(world, ring, httpx.AsyncClient(verify=NO_TLS))
    api.client = over(api)
    return api


def over(api: Api, prices: PriceBook | None = None) -> httpx.AsyncClient:
    """A client of the API with these prices."""
    store, clock = api.world.store, api.world.clock
    closing = Closing(store, clock, late_ms=0)
    find = partial(findings, Ports(store, clock, api.world.windows), closing, ())
    runner = api.world.service.runner("budget")
    budgets = Budgets(api.world.limits, Purses(api.world.limits, store, prices), runner, clock)
    app = create_app(Reader(store, api.ring, clock, prices), Accounts(closing, find, prices), budgets)
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    return httpx.AsyncClient(transport=transport, base_url="http://usage")


def totals(answer: httpx.Response) -> dict[tuple[str, str, str], int]:
    """The totals in an answer."""
    assert answer.status_code == 200, answer.text
    items: list[dict[str, Any]] = answer.json()["items"]
    return {(each["endpoint_id"], each["meter"], each["account"]): each["quantity"] for each in items}


async def test_usage_is_told_by_endpoint_meter_and_account(api: Api) -> None:
    found = totals(await api.get("/v1/usage", api.key()))

    assert found == {
        (ENDPOINT, "requests", ""): 5,
        (ENDPOINT, "prompt_tokens", ""): 50,
        (ENDPOINT, "completion_tokens", ""): 25,
        (ENDPOINT, "gpu_ms", "serving"): 80_000,
        (ENDPOINT, "node_ms", "serving"): 10_000,
    }


@pytest.mark.parametrize(("since", "until"), [(str(T0 + 5000), ""), ("2027-01-15T08:00:05Z", ""), ("", str(T0))])
async def test_usage_is_told_of_an_interval(api: Api, since: str, until: str) -> None:
    query = {name: text for name, text in (("from", since), ("to", until)) if text}

    found = totals(await api.get("/v1/usage", api.key(), **query))

    assert (ENDPOINT, "requests", "") not in found


async def test_another_tenants_endpoint_looks_like_none(api: Api) -> None:
    key = api.key("globex")

    theirs = await api.get("/v1/usage", key, endpoint=ENDPOINT)
    nobodys = await api.get("/v1/usage", key, endpoint="ep-none")
    lines = await api.get("/v1/ledger", key, endpoint=ENDPOINT)

    assert theirs.json() == nobodys.json()
    assert lines.json() == {"items": [], "cursor": None}
    assert set(totals(await api.get("/v1/usage", key))) == {
        ("ep-two", meter, "") for meter in ("requests", "prompt_tokens", "completion_tokens")
    }


async def broken_down(api: Api, by: str, **query: str) -> dict[tuple[str, ...], int]:
    """Usage by dimensions and meter."""
    answer = await api.get("/v1/usage", api.key(), group_by=by, **query)
    assert answer.status_code == 200, answer.text
    return {(*each["group"].values(), each["meter"]): each["quantity"] for each in answer.json()["items"]}


async def test_usage_is_told_by_any_dimension_and_always_by_meter(api: Api) -> None:
    changed = usage("r9").model_copy(
        update={"model": "millrace/ngram-2", "key_id": "klmnopqrst", "adapter": "fin", "tenancy": "vnode"}
    )
    api.world.hear(batch([changed], boot_seq=3))

    by_model = await broken_down(api, "model")
    assert by_model["millrace/ngram-1", "requests"] == 5
    assert by_model["millrace/ngram-2", "completion_tokens"] == 5
    assert (await broken_down(api, "key"))["klmnopqrst", "requests"] == 1
    assert (await broken_down(api, "class,account"))["metal3.gpu-h100", "serving", "gpu_ms"] == 80_000
    assert (await broken_down(api, "tenant,project,endpoint"))["acme", "main", ENDPOINT, "node_ms"] == 10_000
    by_day = await broken_down(api, "day,tier,region,tenancy,generation,meter")
    place = ("2027-01-15T00:00:00Z", "h100-dedicated", "eu-1", "", "1", "requests", "requests")
    assert by_day[place] == 5
    assert (await broken_down(api, "adapter,tenancy"))["fin", "vnode", "completion_tokens"] == 5
    assert (await broken_down(api, "hour"))["2027-01-15T08:00:00Z", "requests"] == 6
    assert await broken_down(api, "hour", to=str(T0)) == {}


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(by=st.lists(st.sampled_from([each for each in By if each is not By.DAY]), min_size=1, unique=True))
def test_however_usage_is_broken_down_a_meter_adds_up_to_the_same(api: Api, by: list[By]) -> None:
    reader = Reader(api.world.store, api.ring, api.world.clock)
    found = reader.usage("acme", None, from_ms=0, to_ms=None, by=tuple(by))

    sums: dict[str, int] = {}
    for each in found.items:
        sums[each.meter] = sums.get(each.meter, 0) + each.quantity
    assert sums == {
        "requests": 5,
        "prompt_tokens": 50,
        "completion_tokens": 25,
        "gpu_ms": 80_000,
        "node_ms": 10_000,
    }


async def test_a_receipt_is_the_lines_of_a_request_for_its_tenant_only(api: Api) -> None:
    mine = await api.get("/v1/usage/requests/r3", api.key())
    theirs = await api.get("/v1/usage/requests/r3", api.key("globex"))
    nobodys = await api.get("/v1/usage/requests/r99", api.key())

    lines = {each["meter"]: each["quantity"] for each in mine.json()["items"]}
    assert lines == {"requests": 1, "prompt_tokens": 10, "completion_tokens": 5}
    assert {each["data"]["request_id"] for each in mine.json()["items"]} == {"r3"}
    assert (theirs.status_code, theirs.json()) == (nobodys.status_code, nobodys.json())
    assert (nobodys.status_code, nobodys.json()["code"]) == (404, "not_found")


BOOK = PriceBook(
    "book-1",
    {Article("completion_tokens"): Price(1, per=3), Article("gpu_ms/serving", ANY, "h100-dedicated"): Price(7)},
    "EUR",
)


async def test_what_has_a_price_is_told_with_its_cost(api: Api) -> None:
    api.client = over(api, prices=BOOK)
    key = api.key()

    answer = (await api.get("/v1/usage", key, group_by="endpoint,account")).json()
    receipt = (await api.get("/v1/usage/requests/r2", key)).json()

    costs = {(each["meter"], each["account"]): each["cost_nano"] for each in answer["items"]}
    assert answer["price_book"] == {"id": "book-1", "currency": "EUR"}
    assert costs["completion_tokens", ""] == 8  # 25 tokens, at a third of a nano-unit each.
    gpu_ms = next(each["quantity"] for each in answer["items"] if each["account"] == "serving")
    assert costs["gpu_ms", "serving"] == gpu_ms * 7
    assert costs["requests", ""] is None
    assert (receipt["cost_nano"], receipt["price_book"]["id"]) == (2, "book-1")


async def test_without_a_price_book_nobody_is_told_of_money(api: Api) -> None:
    answer = (await api.get("/v1/usage", api.key())).json()

    assert answer["price_book"] is None
    assert {each["cost_nano"] for each in answer["items"]} == {None}


async def test_the_operator_sees_everybody_or_the_tenant_that_is_named(api: Api) -> None:
    api.world.hear(batch([usage("bad", completion_tokens=-1)], boot_seq=3))
    key = api.key(tenant="", scopes=("operate",))
    headers = {"authorization": f"Bearer {key}", "x-millrace-project": "globex/main"}

    whole = await api.get("/v1/usage", key, group_by="tenant")
    one = await api.client.get("/v1/usage", params={"group_by": "tenant"}, headers=headers)
    receipt = await api.get("/v1/usage/requests/x1", key)

    requests = {
        each["group"]["tenant"]: each["quantity"] for each in whole.json()["items"] if each["meter"] == "requests"
    }
    assert requests == {"acme": 5, "globex": 1}
    assert {each["group"]["tenant"] for each in one.json()["items"]} == {"globex"}
    assert receipt.status_code == 200


async def test_a_tenants_key_sees_no_other_tenant_whatever_it_names(api: Api) -> None:
    headers = {"authorization": f"Bearer {api.key()}", "x-millrace-project": "globex/main"}

    answer = await api.client.get("/v1/usage", params={"group_by": "tenant"}, headers=headers)

    assert {each["group"]["tenant"] for each in answer.json()["items"]} == {"acme"}


async def test_the_ledger_is_read_to_its_end_page_by_page(api: Api) -> None:
    key = api.key(scopes=("manage",))
    lines: list[dict[str, Any]] = []
    query = {"endpoint": ENDPOINT, "limit": "2"}
    for _ in range(100):
        answer = (await api.get("/v1/ledger", key, **query)).json()
        lines += answer["items"]
        if answer["cursor"] is None:
            break
        query["cursor"] = answer["cursor"]

    ids = [each["id"] for each in lines]
    assert sorted(ids) == sorted(each.id for each in api.world.store.ledger.values() if ENDPOINT in each.account)
    assert [each["at_ms"] for each in lines] == sorted(each["at_ms"] for each in lines)
    assert {each["data"].get("request_id") for each in lines} >= {"r0", "r4"}


@pytest.mark.parametrize("header", ["", "Bearer nonsense", "Basic abc", "Bearer "])
async def test_no_good_key_no_answer(api: Api, header: str) -> None:
    answer = await api.client.get("/v1/usage", headers={"authorization": header})

    assert (answer.status_code, answer.headers["content-type"]) == (401, "application/problem+json")
    assert answer.headers["www-authenticate"] == "Bearer"


async def test_a_revoked_or_expired_key_reads_nothing(api: Api) -> None:
    revoked, expired = api.key(), api.key(expires_at_ms=T0)
    learn_key(api.ring, revoked.split("_")[2], None)

    assert (await api.get("/v1/usage", revoked)).status_code == 401
    assert (await api.get("/v1/usage", expired)).status_code == 401


async def test_an_unreadable_key_is_no_key(api: Api) -> None:
    key = api.key()
    learn_key(api.ring, key.split("_")[2], b"{broken")

    assert (await api.get("/v1/usage", key)).status_code == 401


async def test_a_key_that_may_be_used_from_what_is_no_block_is_no_key(api: Api) -> None:
    key = api.key(allowed_ips=("10.0.0.0/99",))

    assert (await api.get("/v1/usage", key)).status_code == 401


async def test_a_key_for_inference_reads_no_usage(api: Api) -> None:
    answer = await api.get("/v1/usage", api.key(scopes=("inference",)))

    assert (answer.status_code, answer.json()["code"]) == (403, "forbidden")


@pytest.mark.parametrize(
    ("path", "query"),
    [
        ("/v1/usage", {"from": "yesterday"}),
        ("/v1/usage", {"from": "2027-01-15T08:00:05"}),
        ("/v1/usage", {"to": "9" * 30}),
        ("/v1/usage", {"from": "6", "to": "5"}),
        ("/v1/ledger", {"endpoint": ENDPOINT, "from": "6", "to": "5"}),
        ("/v1/usage", {"group_by": "colour"}),
        ("/v1/usage", {"group_by": "hour,day"}),
        ("/v1/usage", {"group_by": ""}),
        ("/v1/usage", {"from": "2", "to": "1"}),
        ("/v1/ledger", {"endpoint": ENDPOINT, "from": "2", "to": "1"}),
        ("/v1/ledger", {}),
        ("/v1/ledger", {"endpoint": ENDPOINT, "limit": "0"}),
        ("/v1/ledger", {"endpoint": ENDPOINT, "limit": "100000"}),
        ("/v1/ledger", {"endpoint": ENDPOINT, "cursor": "x"}),
    ],
)
async def test_a_wrong_query_is_a_problem_that_says_so(api: Api, path: str, query: dict[str, str]) -> None:
    answer = await api.get(path, api.key(), **query)

    assert (answer.status_code, answer.json()["code"]) == (422, "invalid")
    assert answer.headers["content-type"] == "application/problem+json"


@pytest.mark.parametrize("name", ["ep\0", "ep' OR 1=1", "x" * 5000])
async def test_what_can_be_no_name_names_nothing(api: Api, name: str) -> None:
    usage = await api.get("/v1/usage", api.key(), endpoint=name)
    ledger = await api.get("/v1/ledger", api.key(), endpoint=name)
    receipt = await api.get(f"/v1/usage/requests/{quote(name)}", api.key())

    assert (usage.json()["items"], ledger.json()["items"], receipt.status_code) == ([], [], 404)


async def test_an_unknown_path_is_a_problem_too(api: Api) -> None:
    answer = await api.get("/v1/nothing", api.key())

    assert (answer.status_code, answer.json()["code"]) == (404, "not_found")


PER_TOKEN = PriceBook("b", {Article("prompt_tokens"): Price(2), Article("completion_tokens"): Price(30)}, "EUR")


async def test_budgets_are_told_with_what_is_spent_and_held_of_them(api: Api) -> None:
    for name, entry in (
        ("acme", QuotaEntry(tenant_id="acme", tokens_per_month=5000)),
        (
            "acme.main",
            QuotaEntry(tenant_id="acme", project_id="main", tokens_per_month=UNLIMITED, money_per_month_nano=1_000_000),
        ),
        ("globex", QuotaEntry(tenant_id="globex", tokens_per_month=7)),
    ):
        api.world.limits.change(name, entry.model_dump_json().encode())
    api.world.price(PER_TOKEN)
    api.client = over(api, PER_TOKEN)
    draws = tuple(
        Draw(budget=name, period="2027-01", spent=15, returned=0, needs=400, wants=400)
        for name in ("acme", "acme.main")
    )
    api.world.hear(envelope(BudgetDrawn(instance="r", boot_id="b", draws=draws), subject="r"))
    slices = ("acme@2027-01", "acme.main@2027-01")
    api.world.hear(batch([usage("sliced").model_copy(update={"slices": slices})], boot_seq=9))

    found = (await api.get("/v1/budgets", api.key())).json()["items"]
    totals_now = totals(await api.get("/v1/usage", api.key("", ("operate",))))

    assert [
        (each["project_id"], each["tokens_limit"], each["tokens_spent"], each["tokens_held"]) for each in found
    ] == [
        ("", 5000, 15, 385),
        ("main", None, 15, 385),
    ]
    money = [found[1][f"money_{name}_nano"] for name in ("limit", "spent", "held")]
    assert money == [1_000_000, 10 * 2 + 5 * 30, 385 * 30]
    assert found[0]["money_limit_nano"] is None
    assert totals_now[ENDPOINT, "prompt_tokens", ""] == 60, "the budget's own account is no usage"
    assert not any(endpoint == "2027-01" for endpoint, _, _ in totals_now)


async def test_without_a_price_book_a_budget_in_money_says_that_it_has_no_prices(api: Api) -> None:
    entry = QuotaEntry(tenant_id="acme", tokens_per_month=UNLIMITED, money_per_month_nano=5)
    api.world.limits.change("acme", entry.model_dump_json().encode())

    found = (await api.get("/v1/budgets", api.key(), period="2026-02")).json()["items"]

    assert [(each["period"], each["is_priced"], each["money_spent_nano"]) for each in found] == [("2026-02", False, 0)]
    for wrong in ("now", "2026-13", "2026-00", "٢٠٢٦-١١"):
        assert (await api.get("/v1/budgets", api.key(), period=wrong)).status_code == 422
