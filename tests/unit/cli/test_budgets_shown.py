"""`millrace budgets` and how an amount is said: every figure that the API told, in places that people read."""

from __future__ import annotations

import io
from typing import Any

import pytest
from rich.console import Console

from libs.cli.budgets import UNPRICED, budgets_table
from libs.cli.quotas import amount, quota_of, quota_text
from libs.common.errors import Invalid


def said(found: dict[str, Any]) -> str:
    console = Console(file=io.StringIO(), width=140)
    console.print(budgets_table(found))
    text = console.file
    assert isinstance(text, io.StringIO)
    return text.getvalue()


def a_budget(**change: object) -> dict[str, object]:
    return {
        "tenant_id": "acme", "project_id": "main", "period": "2026-11", "tokens_limit": None, "tokens_spent": 4_120,
        "tokens_held": 300, "money_limit_nano": 250_000_000_000, "money_spent_nano": 125_016_480_000,
        "money_held_nano": 1_500_000_000, "currency": "EUR", "is_priced": True, "alerted_percent": 50, **change,
    }  # fmt: skip


def test_money_is_shown_with_what_is_left_and_tokens_only_where_they_are_limited() -> None:
    text = said({"items": [a_budget(), a_budget(project_id="", tokens_limit=10_000, money_limit_nano=None)]})

    assert "acme/main" in text
    for figure in ("250.00", "125.02", "50", "1.50", "123.48", "10,000", "4,120", "5,580"):
        assert figure in text
    assert UNPRICED not in text


def test_a_budget_in_money_without_prices_says_so() -> None:
    assert UNPRICED in " ".join(said({"items": [a_budget(is_priced=False)]}).split())


def test_amounts_go_in_and_come_out_exactly() -> None:
    quota = quota_of({"gpus": {}}, spend="99.123456789")

    assert quota["money_per_month_nano"] == 99_123_456_789
    assert amount(quota["money_per_month_nano"]) == "99.123456789"
    assert amount(250_000_000_000) == "250.00"
    assert quota_of(quota, spend="none")["money_per_month_nano"] is None
    whole = {"endpoints": None, "replicas": None, "requests_per_minute": None, "tokens_per_minute": None}
    assert quota_text({**whole, **quota}) == "99.123456789 for tokens/month"


@pytest.mark.parametrize("text", ["-1", "1e9", "1.0000000001", "EUR 5", "", "12345678", "٣"])
def test_what_is_no_amount_is_refused(text: str) -> None:
    with pytest.raises(Invalid, match="no amount"):
        quota_of({"gpus": {}}, spend=text)
