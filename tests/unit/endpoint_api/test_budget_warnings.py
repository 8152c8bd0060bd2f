"""Warnings of budgets: who spends a budget hears of it, once, by webhook and watch; nobody else does."""

from __future__ import annotations

import json
from typing import Any, Final

import pytest

from libs.common.bus.streams import EVT
from libs.common.events.envelope import Envelope, from_wire
from libs.common.events.tenant import NO_LIMITS, BudgetWarned
from libs.common.events.usage import BudgetReached
from libs.common.ids import EventId
from services.endpoint_api.core.caller import Ask
from tests.unit.endpoint_api.given import NOW, Stand, a_caller
from tests.unit.endpoint_api.test_tenants import IN_ACME, ROOT, with_acme
from tests.unit.endpoint_api.test_webhooks import ASK, Receiver, Scene, a_receiver, is_signed

TOKENS: Final = BudgetReached(
    tenant_id="acme", project_id="main", period="2026-11", percent=80, tokens_per_month=1000, tokens_spent=812
)
MONEY: Final = TOKENS.model_copy(
    update={"money_per_month_nano": 9_000, "money_spent_nano": 7_300, "currency": "EUR", "tokens_per_month": 2**53 - 1}
)


def hear(stand: Stand, reached: BudgetReached, name: str = "reached") -> None:
    """Metering told it."""
    stand.service.handle(Envelope(EventId(name), reached, subject=reached.tenant_id, time_ms=NOW))


def warned(stand: Stand) -> list[BudgetWarned]:
    """What was told of budgets."""
    told = [from_wire(each.headers, each.body).data for each in stand.store.outbox.values() if each.stream == EVT]
    return [each for each in told if isinstance(each, BudgetWarned)]


def of_budgets(receiver: Receiver) -> list[dict[str, Any]]:
    """What a receiver got of budgets."""
    got = [json.loads(body) for _, body in receiver.got]
    return [each["data"] for each in got if each["type"] == "budget.warned.v1"]


async def test_a_warning_reaches_the_webhooks_of_its_project_signed_and_once() -> None:
    scene = Scene()
    scene.stand.api.tenants.adopt("acme", "main")
    scene.stand.api.tenants.adopt("other", "main")
    async with a_receiver() as receiver, a_receiver() as of_endpoints:
        made = scene.a_webhook(receiver.url, "budget.warned")
        scene.verbs.create(Ask(a_caller(), "req-2", "key-2"), url=of_endpoints.url, events=("endpoint.*",))
        hear(scene.stand, TOKENS)
        hear(scene.stand, TOKENS)  # The bus brings it twice.
        hear(scene.stand, TOKENS.model_copy(update={"tenant_id": "other"}), "of another")

        await scene.deliver()

    (data,) = of_budgets(receiver)
    assert {name: data[name] for name in ("of", "percent", "tokens_spent", "tokens_per_month")} == {
        "of": "project", "percent": 80, "tokens_spent": 812, "tokens_per_month": 1000
    }  # fmt: skip
    assert all(is_signed(headers, body, made.secret) for headers, body in receiver.got)
    assert of_endpoints.got == []


async def test_a_warning_that_a_receiver_did_not_take_is_sent_again() -> None:
    scene = Scene()
    scene.stand.api.tenants.adopt("acme", "main")
    async with a_receiver(b"HTTP/1.1 503 Later\r\n\r\n") as receiver:
        scene.a_webhook(receiver.url, "budget.*")
        hear(scene.stand, TOKENS)

        await scene.deliver()
        await scene.later(600_000)

    assert len(of_budgets(receiver)) == 2
    assert len({*receiver.ids()}) == 1


def test_the_budget_of_a_tenant_concerns_each_of_its_projects() -> None:
    stand = with_acme()
    stand.api.tenants.put_project(Ask(IN_ACME, "r1"), "side", quota=NO_LIMITS, is_new=True)
    stand.api.tenants.put_project(Ask(IN_ACME, "r2"), "gone", quota=NO_LIMITS, is_new=True)
    stand.api.tenants.remove_project(Ask(IN_ACME, "r3"), "gone")

    hear(stand, TOKENS.model_copy(update={"project_id": ""}))

    assert [(each.project_id, each.of) for each in warned(stand)] == [("main", "tenant"), ("side", "tenant")]


@pytest.mark.parametrize(
    ("reached", "of", "tokens", "nano"),
    [
        (TOKENS.model_copy(update={"key_id": "aaaaaaaaaa"}), "key", 1000, None),
        (MONEY, "project", None, 9_000),
    ],
)
def test_it_says_whose_budget_it_is_and_of_what(
    reached: BudgetReached, of: str, tokens: int | None, nano: int | None
) -> None:
    stand = with_acme()

    hear(stand, reached)

    (each,) = warned(stand)
    assert (each.of, each.key_id, each.tokens_per_month, each.money_per_month_nano) == (
        of,
        reached.key_id,
        tokens,
        nano,
    )


def test_of_a_tenant_that_nobody_made_nobody_hears_and_it_is_not_listed() -> None:
    stand = with_acme()

    hear(stand, TOKENS.model_copy(update={"tenant_id": "hooli"}))

    assert warned(stand) == []
    assert [each.id for each in stand.api.tenants.list(ROOT).items] == ["acme"]


def test_budget_events_can_be_asked_for_by_their_noun() -> None:
    scene = Scene()

    assert scene.verbs.create(ASK, url="https://example.com/hook", events=("budget.*",)).webhook.events == ("budget.*",)
    assert scene.verbs.list(a_caller())[0].events == ("budget.*",)
