"""`millrace quotas`: every limit, what is held of it and what is free; and how a quota is said on a command line."""

from __future__ import annotations

import re
from collections.abc import Sequence
from decimal import Decimal
from typing import Annotated, Final

import typer
from rich.table import Table

from libs.cli.client import Json, api
from libs.cli.output import OUTPUT, Output, one_line_errors, show, table
from libs.common.errors import Invalid

NONE: Final = "none"
NANO_PLACES: Final = 9
AMOUNT: Final = re.compile(r"[0-9]{1,7}(\.[0-9]{1,9})?")
IN_LEDGER: Final = "millrace budgets"  # Says what is spent of it.
COUNT: Final = f"A number, or {NONE}."

Endpoints = Annotated[str | None, typer.Option(help=f"Most endpoints. {COUNT}", metavar="N")]
Replicas = Annotated[
    str | None, typer.Option(help=f"Most replicas, all endpoints' maximum together. {COUNT}", metavar="N")
]
Gpus = Annotated[
    list[str] | None,
    typer.Option(help=f"Most GPUs of a node class; * for each not named. May be repeated. {COUNT}", metavar="CLASS=N"),
]
Rpm = Annotated[str | None, typer.Option(help=f"Requests per minute. {COUNT}", metavar="N")]
Tpm = Annotated[str | None, typer.Option(help=f"Tokens per minute. {COUNT}", metavar="N")]
AtOnce = Annotated[str | None, typer.Option(help=f"Requests at once, waiting ones too. {COUNT}", metavar="N")]
Budget = Annotated[
    str | None, typer.Option(help=f"Tokens per month of UTC: a budget, never passed. {COUNT}", metavar="N")
]
Spend = Annotated[
    str | None,
    typer.Option(
        help=f"What tokens may cost per month of UTC, in the price book's currency: never passed. {COUNT}",
        metavar="AMOUNT",
    ),
]


@one_line_errors
def show_quotas(output: Output = OUTPUT) -> None:
    """Every limit of the tenant and the project: how much it is, how much is held, how much is free."""
    found = api().projects.quotas()
    show(output, {"items": found}, lambda: quota_table(found))


def quota_table(uses: Sequence[Json]) -> Table:
    """Limits, one a line; what nothing limits and nothing holds is left out."""
    rows = [_row(each) for each in uses if each["limit"] is not None or each["used"]]
    return table(("of", "what", "limit", "held", "free"), rows, right=("limit", "held", "free"))


def quota_of(
    was: Json,
    *,
    endpoints: str | None = None,
    replicas: str | None = None,
    gpus: Sequence[str] = (),
    rpm: str | None = None,
    tpm: str | None = None,
    at_once: str | None = None,
    budget: str | None = None,
    spend: str | None = None,
) -> Json:
    """The quota `was` with what was said on the command line. Raises Invalid for what is no number."""
    said = {
        "endpoints": endpoints,
        "replicas": replicas,
        "requests_per_minute": rpm,
        "tokens_per_minute": tpm,
        "concurrency": at_once,
    }
    limits = {name: _count(value) for name, value in said.items() if value is not None}
    limits |= budget_of(budget=budget, spend=spend)
    by_class = dict(was.get("gpus") or {})
    for each in gpus:
        node_class, is_said, value = each.partition("=")
        if not is_said or not node_class:
            raise Invalid(f"--gpus {each} is not CLASS=N: say it as --gpus terraform.gpu-l40s=8")
        by_class[node_class] = _count(value)
    return {**was, **limits, "gpus": {name: most for name, most in by_class.items() if most is not None}}


def budget_of(*, budget: str | None, spend: str | None) -> dict[str, int | None]:
    """The limits of a budget, those that were said. Raises Invalid for what is no number."""
    tokens = {} if budget is None else {"tokens_per_month": _count(budget)}
    return tokens if spend is None else {**tokens, "money_per_month_nano": _nano(spend)}


def budget_text(limits: Json) -> str:
    """A budget in a few words; empty: there is none."""
    tokens, nano = limits.get("tokens_per_month"), limits.get("money_per_month_nano")
    said = [] if tokens is None else [f"{tokens:,} token{'' if tokens == 1 else 's'}/month"]
    return ", ".join(said if nano is None else [*said, f"{amount(nano)} for tokens/month"])


def limits_text(limits: Json | None) -> str:
    """The limits of a key or an endpoint in a few words."""
    words = (
        ("requests_per_minute", "requests a minute"),
        ("tokens_per_minute", "tokens a minute"),
        ("concurrency", "at once"),
    )
    said = limits or {}
    return ", ".join(f"{said[name]:,} {word}" for name, word in words if said.get(name)) or "none of its own"


def quota_text(quota: Json) -> str:
    """A quota in a few words."""
    named = [
        ("endpoint{s}", quota["endpoints"]),
        ("replica{s}", quota["replicas"]),
        *((f"GPU{{s}} of {_class(name)}", most) for name, most in sorted(quota["gpus"].items(), reverse=True)),
        ("request{s}/min", quota["requests_per_minute"]),
        ("token{s}/min", quota["tokens_per_minute"]),
        ("request{s} at once", quota.get("concurrency")),
    ]
    said = [f"{most:,} {name.format(s='' if most == 1 else 's')}" for name, most in named if most is not None]
    said += filter(None, [budget_text(quota)])
    return ", ".join(said) or "no limits"


def amount(nano: int) -> str:
    """Money without its currency: cents, or as many places more as it takes to be exact."""
    exact = Decimal(nano).scaleb(-NANO_PLACES).normalize()
    return f"{exact:,.2f}" if exact == round(exact, 2) else f"{exact:,f}"


def _class(name: str) -> str:
    return "each other class" if name == "*" else name


def _row(use: Json) -> tuple[str, str, str, str, str]:
    what = use["resource"].replace("_", " ").replace("gpus", "GPUs").replace("concurrency", "requests at once")
    limit, held = use["limit"], use["used"]
    if use["resource"] == "money_per_month_nano":
        return (
            use["level"],
            "money for tokens per month",
            "no limit" if limit is None else amount(limit),
            IN_LEDGER,
            "",
        )
    free = "" if limit is None or held is None else f"{max(0, limit - held):,}"
    return (
        use["level"],
        f"{what} of {use['node_class']}" if use["node_class"] else what,
        "no limit" if limit is None else f"{limit:,}",
        "at the router" if held is None else f"{held:,}",
        free,
    )


def _nano(value: str) -> int | None:
    if value == NONE:
        return None
    if not AMOUNT.fullmatch(value):
        raise Invalid(f"{value} is no amount: give one like 250 or 99.50, with at most {NANO_PLACES} places, or {NONE}")
    return int(Decimal(value).scaleb(NANO_PLACES))


def _count(value: str) -> int | None:
    if value == NONE:
        return None
    if not value.isdecimal():
        raise Invalid(f"{value} is no limit: give a number, or {NONE}")
    return int(value)
