"""The `millrace` command: its verbs, one line of help each."""

from __future__ import annotations

import os
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from libs.cli import (
    audit,
    budgets,
    domains,
    endpoints,
    events,
    keys,
    local,
    members,
    nodes,
    operations,
    profiles,
    projects,
    quotas,
    snapshots,
    tenants,
    usage,
    webhooks,
)
from libs.cli import caches as caching
from libs.cli import capacity as holders
from libs.cli import demo as demonstration
from libs.cli import doctor as examination
from libs.cli import login as signing_in
from libs.cli import reconcile as reconciliation
from libs.cli import retell as telling
from libs.cli import trace as tracing
from libs.cli.client import Client, api
from libs.cli.credentials import PROFILE, PROJECT, Credentials
from libs.cli.offers import model_table, tier_table
from libs.cli.output import EXIT_FAILED, OUTPUT, Output, card, console, one_line_errors, show, table
from libs.cli.profile import DEFAULT_SETTINGS, Home, read_settings, written
from libs.cli.top import watch

EXITS: Final = (
    "Exit codes: 0 done, 1 refused or failed, 2 wrong usage, 3 nobody answers, 130 interrupted. "
    "--output json is for programs."
)

app = typer.Typer(
    no_args_is_help=True, add_completion=True, help="Millrace: inference endpoints, from command to bill.", epilog=EXITS
)
app.add_typer(endpoints.app, name="endpoints")
app.add_typer(operations.app, name="operations")
app.add_typer(keys.app, name="keys")
app.add_typer(tenants.app, name="tenants")
app.add_typer(projects.app, name="projects")
app.add_typer(members.app, name="members")
app.add_typer(usage.app, name="usage")
app.add_typer(events.app, name="events")
app.add_typer(audit.app, name="audit")
app.add_typer(webhooks.app, name="webhooks")
app.add_typer(domains.app, name="domains")
app.add_typer(nodes.app, name="nodes")
app.add_typer(snapshots.app, name="snapshots")
app.add_typer(profiles.app, name="profiles")

NEXT: Final = "millrace endpoints create hello --model millrace/ngram-1 --tier l40s-dedicated --wait"
Settings = Annotated[Path, typer.Option("--settings", help="Settings file of the local profile (TOML).")]


@app.callback()
def choose(
    profile: Annotated[
        str,
        typer.Option(
            "--profile",
            envvar=PROFILE,
            help="Saved credentials to use; `operator`: those that `up` made for operators.",
        ),
    ] = "",
    project: Annotated[
        str,
        typer.Option(
            "--project", envvar=PROJECT, help="<tenant>/<project>, or <tenant>: for operators and members of several."
        ),
    ] = "",
) -> None:
    """Note which credentials are to be used."""
    if profile:
        os.environ[PROFILE] = profile
    if project:
        os.environ[PROJECT] = project


@app.command()
@one_line_errors
def up(settings: Settings = DEFAULT_SETTINGS) -> None:
    """Start everything on this machine and leave it running."""
    home = Home.default()
    local.up(home, read_settings(settings), progress=lambda line: console.print(f"[green]✓[/] {line}"))
    found = written(home.credentials)
    console.print()
    console.print(
        card(
            [
                ("endpoint API", f"{found['api_url']}/v1"),
                ("model traffic (OpenAI)", found["router_url"]),
                ("usage", f"{found['usage_url']}/v1/usage"),
                ("events (NATS)", found["nats_url"]),
                ("simulated cloud", f"{found['twin_url']}/twin/v1/inventory"),
                ("API key", f"in {home.credentials}"),
                ("operator", "millrace --profile operator tenants list"),
                ("logs", home.logs),
            ]
        )
    )
    console.print(f"\nnext: {NEXT}\nstop: millrace down", soft_wrap=True)


@app.command()
@one_line_errors
def down() -> None:
    """Stop what `up` started."""
    console.print("stopped" if local.down(Home.default()) else "was not running")


@app.command()
@one_line_errors
def status(output: Output = OUTPUT) -> None:
    """Say which processes run, and which are ready."""
    home = Home.default()
    found = [asdict(each) for each in local.health(home)] if local.is_up(home) else []
    rows = [(each["name"], str(each["pid"] or ""), _yes(each["ready"]), each["restarts"]) for each in found]
    columns = ("process", "pid", "ready", "restarts")
    show(output, found, lambda: table(columns, rows) if rows else "nothing is running; `millrace up` starts it")
    if not found or not all(each["ready"] for each in found):
        raise typer.Exit(EXIT_FAILED)


@app.command()
@one_line_errors
def top(
    interval: Annotated[float, typer.Option(min=0.2, help="Seconds between two looks.")] = 2.0,
    once: Annotated[bool, typer.Option("--once", help="One table over one interval, then end.")] = False,
    output: Output = OUTPUT,
) -> None:
    """What the router serves right now, by endpoint; for operators. Ends with Ctrl-C."""
    watch(Credentials.read(Home.default()), interval_s=interval, once=once, output=output)


@app.command()
@one_line_errors
def chat(
    name: Annotated[str, typer.Argument(help="Name of the endpoint.")],
    prompt: Annotated[str, typer.Argument(help="What to say to the model.")],
    max_tokens: Annotated[int, typer.Option(help="Most tokens in the answer.")] = 64,
    output: Output = OUTPUT,
) -> None:
    """Ask an endpoint something and stream its answer."""
    told: dict[str, Any] = {}
    parts = []
    ids: list[str] = []
    client = Client(Credentials.read(Home.default()))
    for chunk in client.chat(model=name, prompt=prompt, max_tokens=max_tokens, on_id=ids.append):
        told = chunk.get("usage") or told
        for choice in chunk["choices"]:
            parts.append(choice["delta"].get("content") or "")
            if output is Output.TABLE:
                console.out(parts[-1], end="", highlight=False)
    if output is Output.TABLE:
        console.print(
            f"\n\n[dim]{told.get('prompt_tokens')} prompt tokens, {told.get('completion_tokens')} answer tokens; "
            f"receipt: millrace usage request {''.join(ids)}[/]",
            soft_wrap=True,
        )
    else:
        show(output, {"content": "".join(parts), "usage": told, "request_id": "".join(ids)}, lambda: "")


@app.command()
@one_line_errors
def tiers(output: Output = OUTPUT) -> None:
    """The tiers on offer."""
    found = {"items": api().offers.tiers()}
    show(output, found, lambda: tier_table(found["items"]))


@app.command()
@one_line_errors
def models(output: Output = OUTPUT) -> None:
    """The models on offer."""
    found = {"items": api().offers.models()}
    show(output, found, lambda: model_table(found["items"]))


app.command(name="budgets")(budgets.budgets)
app.command(name="quotas")(quotas.show_quotas)
app.command(name="login")(signing_in.login)
app.command(name="doctor")(examination.doctor)
app.command(name="capacity")(holders.capacity)
app.command(name="retell")(telling.retell)
app.command(name="reconcile")(reconciliation.reconcile)
app.command(name="trace")(tracing.trace)
app.command(name="caches")(caching.caches)


@app.command()
@one_line_errors
def demo(settings: Settings = DEFAULT_SETTINGS) -> None:
    """An endpoint from command to bill, shown step by step, then everything stopped."""
    demonstration.run(Home.default(), read_settings(settings))


def _yes(holds: bool) -> str:
    return "yes" if holds else "no"
