"""`millrace tenants`: customers, what they may use and how much of it; for operators."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.table import Table

from libs.cli.client import Json, api
from libs.cli.output import OUTPUT, Output, card, moment, one_line_errors, show, table
from libs.cli.quotas import AtOnce, Budget, Endpoints, Gpus, Replicas, Rpm, Spend, Tpm, quota_of, quota_text

app = typer.Typer(no_args_is_help=True, help="Tenants; for operators: millrace --profile operator tenants …")
Id = Annotated[str, typer.Argument(help="Id of the tenant.")]


@app.command()
@one_line_errors
def create(
    tenant_id: Annotated[str, typer.Argument(help="1 to 40 of a-z, 0-9 and '-'.")],
    display_name: Annotated[str, typer.Option("--name", help="What people call it; left out: the id.")] = "",
    tier: Annotated[list[str] | None, typer.Option(help="A tier that is not open to all; may be repeated.")] = None,
    project: Annotated[list[str] | None, typer.Option(help="A first project; may be repeated.")] = None,
    endpoints: Endpoints = None,
    replicas: Replicas = None,
    gpus: Gpus = None,
    rpm: Rpm = None,
    tpm: Tpm = None,
    at_once: AtOnce = None,
    budget: Budget = None,
    spend: Spend = None,
    output: Output = OUTPUT,
) -> None:
    """Make a tenant."""
    quota = quota_of(
        {},
        endpoints=endpoints,
        replicas=replicas,
        gpus=gpus or (),
        rpm=rpm,
        tpm=tpm,
        at_once=at_once,
        budget=budget,
        spend=spend,
    )
    made = api().tenants.create(
        tenant_id, display_name or tenant_id, tiers=tier or (), quota=quota, projects=project or ()
    )
    show(output, made, lambda: _card(made))


@app.command("list")
@one_line_errors
def list_(output: Output = OUTPUT) -> None:
    """List the tenants."""
    found = list(api().tenants.list())
    show(output, {"items": found}, lambda: _listing(found) if found else "no tenants")


@app.command()
@one_line_errors
def get(tenant_id: Id, output: Output = OUTPUT) -> None:
    """Show one tenant."""
    found = api().tenants.get(tenant_id)
    show(output, found, lambda: _card(found))


@app.command()
@one_line_errors
def suspend(tenant_id: Id, output: Output = OUTPUT) -> None:
    """Refuse everybody in it, and its traffic; what runs goes on running."""
    changed = api().tenants.change(tenant_id, suspended=True)
    show(output, changed, lambda: _card(changed))


@app.command()
@one_line_errors
def resume(tenant_id: Id, output: Output = OUTPUT) -> None:
    """Let a suspended tenant go on."""
    changed = api().tenants.change(tenant_id, suspended=False)
    show(output, changed, lambda: _card(changed))


@app.command()
@one_line_errors
def entitle(
    tenant_id: Id,
    tiers: Annotated[
        list[str] | None, typer.Argument(help="Tiers; none: only those open to all; *: every tier.")
    ] = None,
    output: Output = OUTPUT,
) -> None:
    """Say which tiers it may use besides those open to all, in place of what was said before."""
    changed = api().tenants.change(tenant_id, tiers=tiers or ())
    show(output, changed, lambda: _card(changed))


@app.command("set-quota")
@one_line_errors
def set_quota(
    tenant_id: Id,
    endpoints: Endpoints = None,
    replicas: Replicas = None,
    gpus: Gpus = None,
    rpm: Rpm = None,
    tpm: Tpm = None,
    at_once: AtOnce = None,
    budget: Budget = None,
    spend: Spend = None,
    output: Output = OUTPUT,
) -> None:
    """Change its limits; those left out stay."""
    tenants = api().tenants
    was = tenants.get(tenant_id)["quota"]
    quota = quota_of(
        was,
        endpoints=endpoints,
        replicas=replicas,
        gpus=gpus or (),
        rpm=rpm,
        tpm=tpm,
        at_once=at_once,
        budget=budget,
        spend=spend,
    )
    changed = tenants.change(tenant_id, quota=quota)
    show(output, changed, lambda: _card(changed))


def _listing(tenants: list[Json]) -> Table:
    rows = [
        (each["id"], _state(each), len(each["projects"]), ", ".join(each["tiers"]), quota_text(each["quota"]))
        for each in tenants
    ]
    return table(("tenant", "state", "projects", "also entitled to", "quota"), rows, whole=("tenant", "state"))


def _card(tenant: Json) -> Table:
    return card(
        [
            ("tenant", tenant["id"]),
            ("name", tenant["display_name"]),
            ("state", _state(tenant)),
            ("created", moment(tenant["created_at"])),
            ("also entitled to", ", ".join(tenant["tiers"]) or "nothing but the tiers open to all"),
            ("quota", quota_text(tenant["quota"])),
            ("projects", ", ".join(each["id"] for each in tenant["projects"]) or "none"),
        ]
    )


def _state(tenant: Json) -> str:
    return "suspended" if tenant["suspended"] else "active"
