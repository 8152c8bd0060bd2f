"""`millrace capacity`: who holds which machines, since when, why, and at what cost; for operators."""

from __future__ import annotations

import os
from typing import Annotated, Any, Final

import typer
from rich.table import Table

from libs.cli.output import OUTPUT, Output, console, duration, one_line_errors, show, table
from libs.cli.profile import CATALOGUE, Home, written
from libs.cli.programs import database_of
from libs.cli.reports import reported
from libs.common.clock import SystemClock
from libs.common.errors import Invalid
from libs.common.events.event import Owner

PROGRAM: Final = "services.capacity_manager.shell.holding"
HARDWARE: Final = (("available", "available"), ("coming", "coming"), ("in_use", "in use"), ("broken", "broken"))
READ_S_MAX: Final = 120.0  # Three lists and one table.

Changing = Annotated[
    str, typer.Option("--change", metavar="FROM=TO", help="Dry run: what it would mean to have another node type.")
]


@one_line_errors
def capacity(change: Changing = "", output: Output = OUTPUT) -> None:
    """Who holds what, since when, why, at what cost; what nobody holds; and what a change of class would come to.

    Of the local profile, or of the service whose MILLRACE_ settings are in the environment. Nothing is changed.
    """
    found = _reported(change)
    show(output, found, lambda: _changes(found["changes"]) if change else _holdings(found["holdings"]))
    if output is Output.TABLE and not change:
        if found["stocks"]:
            console.print("", _stocks(found["stocks"]), sep="\n")
        console.print("", _classes(found), sep="\n")
        if found["orphans"]:
            console.print("", _orphans(found["orphans"]), sep="\n")
        console.print("\nCost is what vCluster Platform rates a node at, in its own units.")


def _reported(change: str) -> dict[str, Any]:
    old, equals, new = change.partition("=")
    if change and not (old and equals and new):
        raise Invalid(f"--change {change} is not FROM=TO: name two node types, as `millrace capacity` lists them")
    asked = ("--change", old, new) if change else ()
    silent = "capacity-manager's records can't be read"
    return reported(PROGRAM, *asked, env=environment(), within_s=READ_S_MAX, silent=silent)


def environment() -> dict[str, str]:
    """The settings of capacity-manager: those that are in the environment, or of the local profile."""
    if "MILLRACE_PLATFORM_URL" in os.environ:
        return dict(os.environ)
    home = Home.default()
    noted = written(home.credentials)
    if not noted:
        raise Invalid("no service named: set its MILLRACE_ settings, or start the local profile with `millrace up`")
    told = {
        "PLATFORM_URL": noted["twin_url"],
        "PLATFORM_KEY_FILE": str(home.twin_key),
        "DATABASE_URL": database_of(home, Owner.CAPACITY_MANAGER),
    }
    catalogue = {"MILLRACE_CATALOGUE_DIR": str(CATALOGUE)}
    return {**catalogue, **os.environ, **{f"MILLRACE_{name}": value for name, value in told.items()}}


def _holdings(found: list[dict[str, Any]]) -> Table | str:
    if not found:
        return "Nobody holds anything."
    rows = [
        (
            each["endpoint_id"],
            f"{each['tenant_id']}/{each['project_id']}",
            each["stage"],
            each["why"],
            each["node_type"] + (f" ({each['chosen']})" if each["chosen"] else ""),
            str(each["nodes"]) if each["nodes"] == each["wanted"] else f"{each['nodes']} of {each['wanted']}",
            each["gpus"],
            since(each["since_ms"]),
            f"{each['cost']:,}",
        )
        for each in found
    ]
    columns = ("endpoint", "whose", "stage", "why", "node type", "nodes", "GPUs", "for", "cost")
    return table(columns, rows, whole=("endpoint",), right=("nodes", "GPUs", "for", "cost"))


def _stocks(found: list[dict[str, Any]]) -> Table:
    rows = [
        (
            each["id"],
            each["tier"],
            each["region"],
            each["serving"],
            f"{each['warm']} of {each['target']}",
            each["said_by"],
            "-" if each["hit_percent"] is None else f"{each['hit_percent']} % of {each['drawn']}",
            f"{each['idle_cost']:,}",
            duration(each["idle_gpu_ms"]) if each["idle_gpu_ms"] else "-",
        )
        for each in found
    ]
    columns = ("warm stock of", "tier", "region", "serve", "warm", "by", "hits", "idle cost", "GPU time idle")
    return table(columns, rows, whole=("warm stock of", "tier", "warm", "hits"), right=("serve", *columns[6:]))


def _classes(found: dict[str, Any]) -> Table:
    held = {name: [each for each in found["holdings"] if each["node_type"] == name] for name in _names(found)}
    rows = [
        (
            each["name"],
            _made_by(each),
            each["gpus"],
            sum(one["nodes"] for one in held[each["name"]]),
            "no limit" if each["free"] is None else each["free"],
            _hardware(each["hardware"]),
            f"{each['cost']:,}",
            f"{sum(one['cost'] for one in held[each['name']]):,}",
        )
        for each in found["classes"]
    ]
    columns = ("node type", "made by", "GPUs each", "held", "free", "our machines", "cost each", "cost held")
    return table(columns, rows, whole=("node type",), right=(*columns[2:5], *columns[6:]))


def _made_by(each: dict[str, Any]) -> str:
    parts = (
        " ".join(filter(None, (each["provider"], f"({each['kind']})" if each["kind"] else ""))),
        each["zone"],
        f"rack {each['rack']}" if each["rack"] else "",
        f"reservation {each['reservation']}" if each["reservation"] else "",
    )
    return ", ".join(filter(None, parts)) or "-"


def _hardware(found: dict[str, Any] | None) -> str:
    """Machines of our own: counted, not held."""
    if found is None:
        return "-"
    off = f" ({found['off']} off)" if found["off"] else ""
    counts = [f"{found[key]} {words}" + (off if key == "available" else "") for key, words in HARDWARE if found[key]]
    racks = f"{', '.join(found['racks'])}: " if found["racks"] else ""
    return racks + ", ".join(counts) if counts else "none"


def _orphans(found: list[dict[str, Any]]) -> Table:
    rows = [
        (each["name"], f"{each['tenant_id']}/{each['project_id']}", each["project"], since(each["created_at_ms"]))
        for each in found
    ]
    return table(("nobody's cluster", "whose it was", "Platform project", "stands for"), rows, right=("stands for",))


def _changes(found: list[dict[str, Any]]) -> Table | str:
    if not found:
        return "Nothing that is wanted has nodes of that type."
    rows = [
        (
            each["endpoint_id"],
            each["tenant_id"],
            f"{each['nodes']} → {each['nodes_after']}",
            f"{each['cost']:,} → {each['cost_after']:,}",
            each["refusal"] or "possible",
        )
        for each in found
    ]
    return table(("endpoint", "tenant", "nodes", "cost", "outcome"), rows, whole=("endpoint",), right=("nodes", "cost"))


def _names(found: dict[str, Any]) -> list[str]:
    return [each["name"] for each in found["classes"]]


def since(at_ms: int | None) -> str:
    """How long ago that was."""
    return duration(max(0, SystemClock().now_ms() - at_ms)) if at_ms else "-"
