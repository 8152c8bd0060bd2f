"""`millrace usage` against the read API on a real socket: tables, charts, a receipt, a page, and who sees what."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import httpx
import pytest
from typer.testing import CliRunner, Result

from libs.cli.app import app
from libs.common import web
from libs.common.events.endpoint import Stage
from libs.common.events.tables import KeyEntry
from libs.common.ids import SystemEntropy
from libs.common.keys import Keyring, mint
from libs.common.units import DAY_MS
from services.metering.shell.accounting import Accounts
from services.metering.shell.api import create_app
from services.metering.shell.budgeting import Budgets
from services.metering.shell.closing import Closing
from services.metering.shell.ports import Ports
from services.metering.shell.prices import read_prices
from services.metering.shell.purse import BUDGET, Purses
from services.metering.shell.reconciling import findings
from services.metering.shell.routes import Reader
from tests.support.ports import free_port
from tests.support.web import NO_TLS
from tests.unit.metering.world import T0, World, batch, joined, released, requested, staged, usage

PRICES = Path(__file__).parents[2] / "deploy" / "catalogue" / "prices.yaml"
CLOSED = f"{datetime.fromtimestamp(T0 / 1000, UTC):%Y-%m-%d}"
SPAN = ("--from", str(T0), "--to", str(T0 + 3_600_000))
START_S = 60.0
Millrace = Callable[..., Result]


def a_key(ring: Keyring, tenant: str, scope: str) -> str:
    minted = mint(SystemEntropy())
    entry = KeyEntry(
        key_id=minted.key_id,
        sha256=minted.sha256,
        tenant_id=tenant,
        project_id="main" if tenant else "",
        scopes=(scope,),
    )
    ring.change(minted.key_id, entry)
    return minted.plaintext


@pytest.fixture
def millrace(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Millrace]:
    """The command, as a tenant unless said otherwise, over a ledger of two tenants."""
    world, ring = World(), Keyring()
    world.hear(
        requested(),
        requested(tenant="globex", endpoint="ep-two"),
        staged(Stage.READY, since_ms=T0, sequence=2),
        joined("n1", at_ms=T0, sequence=1),
        batch([usage(f"r{number}") for number in range(5)]),
        batch([usage("x1", tenant="globex", endpoint="ep-two")], boot_seq=2),
    )
    world.pass_time(20)
    world.hear(released("n1", at_ms=world.clock.now_ms(), sequence=2))
    world.pass_time(20)
    world.clock.advance(DAY_MS)
    Closing(world.store, world.clock, late_ms=0).close(CLOSED)
    keys = {"tenant": a_key(ring, "acme", "read"), "operator": a_key(ring, "", "operate")}
    port, loop = free_port(), asyncio.new_event_loop()
    prices = read_prices(PRICES)
    reader = Reader(world.store, ring, world.clock, prices)
    closing = Closing(world.store, world.clock, late_ms=0)
    accounts = Accounts(closing, partial(findings, Ports(world.store, world.clock, world.windows), closing, ()), prices)
    purses = Purses(world.limits, world.store, prices)
    budgets = Budgets(world.limits, purses, world.service.runner(BUDGET), world.clock)
    serving = loop.create_task(web.serve(create_app(reader, accounts, budgets), host="127.0.0.1", port=port))

    def serve() -> None:
        with suppress(asyncio.CancelledError):
            loop.run_until_complete(serving)

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    url = f"http://127.0.0.1:{port}"
    deadline_s = time.monotonic() + START_S
    while not answers(url):
        assert time.monotonic() < deadline_s, "the API does not answer"
        time.sleep(0.05)

    def run(*words: str, who: str = "tenant") -> Result:
        monkeypatch.setenv("MILLRACE_HOME", str(tmp_path))
        monkeypatch.setenv("MILLRACE_API_URL", url)
        monkeypatch.setenv("MILLRACE_USAGE_URL", url)
        monkeypatch.setenv("MILLRACE_API_KEY", keys[who])
        return CliRunner().invoke(app, [*([] if words[0] == "reconcile" else ["usage"]), *words])

    yield run
    loop.call_soon_threadsafe(serving.cancel)
    thread.join(30)
    loop.close()


def answers(url: str) -> bool:
    with suppress(httpx.TransportError):
        return httpx.get(f"{url}/v1/usage", verify=NO_TLS).status_code == 401
    return False


def test_usage_is_a_table_with_its_cost(millrace: Millrace) -> None:
    ran = millrace("--output", "json")

    assert ran.exit_code == 0, ran.output
    found = json.loads(ran.stdout)
    assert found["price_book"]["id"] == "example-1"
    costs = {each["meter"]: each["cost_nano"] for each in found["items"] if not each["account"]}
    assert costs == {"requests": None, "prompt_tokens": 50 * 50, "completion_tokens": 25 * 200}


def test_a_chart_and_a_table_are_asked_for_one_at_a_time(millrace: Millrace) -> None:
    chart = millrace("--plot", *SPAN)
    both = millrace("--plot", "--by", "model")

    assert chart.exit_code == 0, chart.output
    assert both.exit_code == 1
    assert "leave out --by" in both.stderr


def test_a_receipt_is_of_ones_own_request_only(millrace: Millrace) -> None:
    own = millrace("request", "r2", "--output", "json")
    others = millrace("request", "x1")

    assert [each["id"] for each in json.loads(own.stdout)["items"]] == [
        "request/r2/completion_tokens",
        "request/r2/prompt_tokens",
        "request/r2/requests",
    ]
    assert others.exit_code == 1
    assert "no such request" in others.stderr
    assert millrace("request", "x1", who="operator").exit_code == 0


def test_a_page_is_of_the_tenant_or_of_the_fleet(millrace: Millrace, tmp_path: Path) -> None:
    own, fleet = tmp_path / "own.html", tmp_path / "fleet.html"

    assert millrace("report", "--html", str(own), *SPAN).exit_code == 0
    assert millrace("report", "--html", str(fleet), *SPAN, who="operator").exit_code == 0

    assert "Usage of acme" in own.read_text()
    assert "ep-two" not in own.read_text()
    assert "Usage of the fleet" in fleet.read_text()
    assert "main/ep-two" in fleet.read_text()


def test_a_statement_is_its_tenants_and_says_whether_it_is_as_stated(millrace: Millrace) -> None:
    listed = millrace("statements", "--output", "json")
    own = millrace("statement", CLOSED)
    fleet = millrace("statements", who="operator")

    (found,) = json.loads(listed.stdout)["items"]
    assert (found["tenant_id"], found["period"], found["is_as_stated"]) == ("acme", CLOSED, True)
    assert own.exit_code == 0, own.output
    assert f"acme, {CLOSED}: as stated" in own.stdout
    assert "globex" in fleet.stdout
    assert millrace("statement", "2020-01").exit_code == 1


def test_a_reconciliation_says_what_differs_from_the_provider_and_is_for_operators(
    millrace: Millrace, tmp_path: Path
) -> None:
    joined_at = {"type": "Joined", "status": "True", "lastTransitionTime": "2027-01-15T08:00:00Z"}
    claim = {"metadata": {"name": "claim-9"}, "status": {"conditions": [joined_at]}}
    claims = tmp_path / "claims.json"
    claims.write_text(json.dumps({"kind": "List", "items": [claim]}))

    agreed = millrace("reconcile", who="operator")
    differs = millrace("reconcile", "--claims", str(claims), who="operator")

    assert (agreed.exit_code, agreed.stdout[:13]) == (0, "no difference"), agreed.output
    assert differs.exit_code == 1
    assert "claim-9" in differs.stdout
    assert "1 to be repaired" in " ".join(differs.stdout.split())
    refused = millrace("reconcile")
    assert (refused.exit_code, "operator" in refused.stderr) == (1, True)
