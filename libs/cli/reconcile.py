"""`millrace reconcile` and `millrace usage statements`: what closed periods stated, and whether all accounts agree."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated, Any, Final

import typer
from rich.table import Table

from libs.cli.client import Client
from libs.cli.credentials import Credentials
from libs.cli.output import EXIT_FAILED, OUTPUT, Output, one_line_errors, show, table
from libs.cli.profile import Home
from libs.cli.usage_series import meter_name, moment_ms, money, quantity_of
from libs.client.transport import segment
from libs.common.clock import SystemClock
from libs.common.errors import Invalid

READ_S_MAX: Final = 1_800.0  # All of a large ledger is read.
DIGEST_SHOWN: Final = 16
FROM_HELP: Final = "Lines from this time on: RFC 3339, epoch ms, or so long ago, like 24h; left out, all of the ledger."
CLAIMS_HELP: Final = "The provider's claims, a file or -: kubectl get nodeclaims -A -o json"


@one_line_errors
def reconcile(
    claims: Annotated[str | None, typer.Option(help=CLAIMS_HELP)] = None,
    since: Annotated[str | None, typer.Option("--from", help=FROM_HELP)] = None,
    output: Output = OUTPUT,
) -> None:
    """Hold provider, ledger, statements and billing systems against each other; exit code 1 if a difference will last.

    For operators. Changes nothing; each difference comes with its cause and its repair.
    """
    client = Client(Credentials.read(Home.default()), timeout_s=READ_S_MAX)
    query = {"from": since and moment_ms(since, now_ms=SystemClock().now_ms())}
    found = client.usage("/v1/reconciliations", method="POST", query=query, body=_document(claims) if claims else None)
    show(output, found, lambda: _findings(found))
    if found["lasting"]:
        raise typer.Exit(EXIT_FAILED)


@one_line_errors
def statements(output: Output = OUTPUT) -> None:
    """What closed periods stated, and whether it is still that; your own, or of the operator's --project, or all."""
    found = Client(Credentials.read(Home.default())).usage("/v1/statements")
    show(output, found, lambda: _summaries(found))
    if not all(each["is_as_stated"] for each in found["items"]):
        raise typer.Exit(EXIT_FAILED)


@one_line_errors
def statement(
    period: Annotated[str, typer.Argument(help="A closed month like 2026-11, or day like 2026-11-28, of UTC.")],
    output: Output = OUTPUT,
) -> None:
    """One statement, line by line, with what came late for the periods before it."""
    found = Client(Credentials.read(Home.default())).usage(f"/v1/statements/{segment(period)}")
    show(output, found, lambda: _lines(found))


def _document(claims: str) -> dict[str, Any]:
    try:
        text = sys.stdin.read() if claims == "-" else Path(claims).read_text(encoding="utf-8")
        found: dict[str, Any] = json.loads(text)
        return found
    except (OSError, ValueError) as wrong:
        raise Invalid(f"--claims {claims} can't be read ({wrong}): kubectl get nodeclaims -A -o json") from None


def _findings(found: dict[str, Any]) -> Table | str:
    compared = "ledger, statements and billing systems"
    compared = f"provider, {compared}" if found["has_provider"] else f"{compared} (for the provider: --claims)"
    if not found["items"]:
        return f"no difference: {compared} agree"
    columns = ("what", "ours", "theirs", "cause", "repair")
    items = sorted(found["items"], key=lambda each: each["is_passing"])
    drawn = table(columns, [[each[name] for name in columns] for each in items], right=columns[1:3])
    passing = len(items) - found["lasting"]
    drawn.caption = (
        f"{found['lasting']} to be repaired, {passing} that will be gone by themselves; compared: {compared}"
    )
    drawn.caption_justify = "left"
    return drawn


def _summaries(found: dict[str, Any]) -> Table | str:
    if not found["items"]:
        return "no period is closed; an operator closes one: python -m services.metering close <month>"
    book = found["price_book"]
    columns = ("period", "tenant", "lines", "corrections", *(["cost"] if book else []), "digest", "as stated")
    rows = [
        (
            each["period"], each["tenant_id"], each["lines"], each["corrections"],
            *([_cost(each, book)] if book else []),
            each["digest"][:DIGEST_SHOWN], "yes" if each["is_as_stated"] else "NO: restore it from a backup",
        )
        for each in found["items"]
    ]  # fmt: skip
    return table(columns, rows, whole=("period",), right=("cost",))


def _lines(found: dict[str, Any]) -> Table:
    book = found["price_book"]
    columns = ("endpoint", "model", "meter", "account", "quantity", *(["cost"] if book else []), "corrects")
    rows = [
        (
            each["endpoint_id"], each["model"], meter_name(each["meter"]), each["account"],
            quantity_of(each["meter"], each["quantity"]), *([_cost(each, book)] if book else []),
            each["corrects"].partition("/")[0],
        )
        for each in found["lines"]
    ]  # fmt: skip
    drawn = table(columns, rows, whole=("endpoint", "model"), right=("quantity", "cost"))
    stated = "as stated" if found["is_as_stated"] else "NOT AS STATED: restore it from a backup"
    by = f", cost by price book {book['id']}" if book else ""
    drawn.caption = f"{found['tenant_id']}, {found['period']}: {stated}, digest {found['digest'][:DIGEST_SHOWN]}{by}"
    drawn.caption_justify = "left"
    return drawn


def _cost(priced: dict[str, Any], book: dict[str, str]) -> str:
    return "–" if priced["cost_nano"] is None else money(priced["cost_nano"], book["currency"])
