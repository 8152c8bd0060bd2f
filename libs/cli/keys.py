"""`millrace keys`: create, rotate, get, list, revoke; mint the first."""

from __future__ import annotations

import json
import sys
from typing import Annotated

import typer

from libs.cli.client import Json, api
from libs.cli.output import OUTPUT, Output, moment, one_line_errors, show, table
from libs.cli.profile import bootstrap_document
from libs.cli.quotas import Budget, Spend, budget_of, budget_text, limits_text
from libs.common import keys as minting
from libs.common.ids import SystemEntropy

app = typer.Typer(no_args_is_help=True, help="API keys of the project.")


@app.command()
@one_line_errors
def create(
    name: Annotated[str, typer.Argument(help="For people to tell keys apart.")],
    scope: Annotated[list[str] | None, typer.Option(help="inference, read or manage; may be repeated.")] = None,
    expires_in: Annotated[int | None, typer.Option(help="Seconds until it is refused; left out: never.")] = None,
    endpoint: Annotated[list[str] | None, typer.Option(help="Only this endpoint; may be repeated.")] = None,
    allowed_ip: Annotated[list[str] | None, typer.Option(help="Only from this CIDR block; may be repeated.")] = None,
    rpm: Annotated[int | None, typer.Option(help="Requests per minute; left out: what its project may.")] = None,
    tpm: Annotated[int | None, typer.Option(help="Tokens per minute; left out: what its project may.")] = None,
    at_once: Annotated[int | None, typer.Option(help="Requests at once; left out: what its project may.")] = None,
    budget: Budget = None,
    spend: Spend = None,
    output: Output = OUTPUT,
) -> None:
    """Make a key. It is shown this once."""
    said = {"requests_per_minute": rpm, "tokens_per_minute": tpm, "concurrency": at_once}
    made = api().keys.create(
        name,
        scope or ["inference"],
        expires_in_s=expires_in,
        models=endpoint or (),
        allowed_ips=allowed_ip or (),
        limits={name: limit for name, limit in said.items() if limit is not None},
        **budget_of(budget=budget, spend=spend),
    )
    show(output, made, lambda: _secret(made))


@app.command()
@one_line_errors
def rotate(
    key_id: Annotated[str, typer.Argument(help="Id of the key.")],
    overlap: Annotated[int | None, typer.Option(help="Seconds that the old one still works.")] = None,
    output: Output = OUTPUT,
) -> None:
    """Make a successor with the same grants; the old key works a while longer. It is shown this once."""
    made = api().keys.rotate(key_id, overlap_s=overlap)
    show(output, made, lambda: _secret(made))


@app.command("set-budget")
@one_line_errors
def set_budget(
    key_id: Annotated[str, typer.Argument(help="Id of the key.")],
    budget: Budget = None,
    spend: Spend = None,
    output: Output = OUTPUT,
) -> None:
    """Let a key, with its successors, spend so much a month from now on. What is not said stays as it is."""
    known = api().keys.get(key_id)
    limits = {name: known[name] for name in ("tokens_per_month", "money_per_month_nano")}
    changed = api().keys.set_budget(key_id, **{**limits, **budget_of(budget=budget, spend=spend)})
    show(output, changed, lambda: f"{key_id} may spend {budget_text(changed) or 'what its project may'}")


@app.command()
def mint(
    tenant: Annotated[str, typer.Option(help="Tenant that the key is for.")],
    project: Annotated[str, typer.Option(help="Project that the key is for.")],
) -> None:
    """Make the first key of an installation: what endpoint-api reads from MILLRACE_BOOTSTRAP_FILE."""
    document = bootstrap_document(tenant, project, minting.mint(SystemEntropy()).plaintext)
    sys.stdout.write(json.dumps(document, indent=2) + "\n")


@app.command("list")
@one_line_errors
def list_(output: Output = OUTPUT) -> None:
    """List the keys, without their secrets."""
    found = {"items": api().keys.list()}
    rows = [
        (
            each["id"],
            each["name"],
            ", ".join(each["scopes"]),
            each["created_at"][:10],
            _minute(each["last_used_at"]),
            _end(each),
        )
        for each in found["items"]
    ]
    columns = ("id", "name", "scopes", "created", "last used", "ends")
    show(output, found, lambda: table(columns, rows, whole=("id", "created", "last used")))


@app.command()
@one_line_errors
def get(
    key_id: Annotated[str, typer.Argument(help="Id of the key.")],
    output: Output = OUTPUT,
) -> None:
    """Show a key without its secret: what it may do, from where, until when, and when it was last used."""
    found = api().keys.get(key_id)
    rows = [
        ("name", found["name"]),
        ("scopes", ", ".join(found["scopes"])),
        ("endpoints", ", ".join(found["models"]) or "all"),
        ("addresses", ", ".join(found["allowed_ips"]) or "any"),
        ("limits", limits_text(found["limits"])),
        ("budget", budget_text(found) or "none of its own"),
        ("created", moment(found["created_at"])),
        ("last used", _minute(found["last_used_at"])),
        ("ends", _end(found) or "never"),
        ("rotated to", found["rotated_to"] or ""),
    ]
    show(output, found, lambda: table(("", found["id"]), rows))


@app.command()
@one_line_errors
def revoke(key_id: Annotated[str, typer.Argument(help="Id of the key.")], output: Output = OUTPUT) -> None:
    """Refuse a key from now on."""
    answer = api().keys.revoke(key_id)
    show(output, answer, lambda: f"{key_id} is revoked")


def _minute(rfc3339: str | None) -> str:
    return moment(rfc3339)[:16] if rfc3339 else "never"


def _end(key: Json) -> str:
    """When it was revoked, or until when it is good; empty: for ever."""
    if key["revoked_at"]:
        return f"revoked {_minute(key['revoked_at'])}"
    return _minute(key["expires_at"]) if key["expires_at"] else ""


def _secret(made: Json) -> str:
    return f"{made['key']}\n[dim]id {made['id']}; shown this once, keep it now[/]"
