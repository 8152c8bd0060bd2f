"""`millrace budgets`: what may be spent in a month, what is spent of it, and what is left."""

from __future__ import annotations

from typing import Annotated, Any, Final

import typer
from rich.table import Table

from libs.cli.client import Client
from libs.cli.credentials import Credentials
from libs.cli.output import OUTPUT, Output, one_line_errors, show, table
from libs.cli.profile import Home
from libs.cli.usage_series import money

COLUMNS: Final = ("of", "month", "in", "limit", "spent", "%", "held", "left")
UNPRICED: Final = "no price book is set (MILLRACE_PRICES_FILE), so budgets in money grant nothing"


@one_line_errors
def budgets(
    period: Annotated[str | None, typer.Option("--month", help="Like 2026-11, of UTC; left out, this one.")] = None,
    output: Output = OUTPUT,
) -> None:
    """Budgets of the tenant, its projects and their keys. Held: what routers may spend without asking again."""
    found = Client(Credentials.read(Home.default())).usage("/v1/budgets", query={"period": period})
    show(output, found, lambda: budgets_table(found))


def budgets_table(found: dict[str, Any]) -> Table | str:
    """A limit a line."""
    rows = [row for each in found["items"] for row in _rows(each)]
    if not rows:
        return (
            "no budgets: an operator sets one by millrace tenants set-quota TENANT --budget N or --spend AMOUNT, "
            "and who makes a key may give it one: millrace keys create NAME --budget N or --spend AMOUNT"
        )
    drawn = table(COLUMNS, rows, whole=("of",), right=COLUMNS[3:])
    if not all(each["is_priced"] for each in found["items"]):
        drawn.caption, drawn.caption_justify = UNPRICED, "left"
    return drawn


def _rows(each: dict[str, Any]) -> list[tuple[str, ...]]:
    whose = "/".join(filter(None, (each["tenant_id"], each["project_id"])))
    whose += f" key {each['key_id']}" if each.get("key_id") else ""
    found: list[tuple[str, ...]] = []
    if each["tokens_limit"] is not None:
        limit, spent, held = each["tokens_limit"], each["tokens_spent"], each["tokens_held"]
        figures = (f"{limit:,}", f"{spent:,}", _percent(spent, limit), f"{held:,}", f"{max(0, limit - spent - held):,}")
        found.append((whose, each["period"], "tokens", *figures))
    if each["money_limit_nano"] is not None:
        limit, spent, held = each["money_limit_nano"], each["money_spent_nano"], each["money_held_nano"]
        said = [money(nano, "") for nano in (limit, spent, held, max(0, limit - spent - held))]
        figures = (said[0], said[1], _percent(spent, limit), said[2], said[3])
        found.append((whose, each["period"], each["currency"] or "money", *figures))
    return found


def _percent(spent: int, limit: int) -> str:
    return f"{100 * spent // limit}" if limit else "100"
