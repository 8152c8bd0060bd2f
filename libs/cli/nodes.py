"""`millrace nodes`: which machines are held, and another one in place of one that works; for operators."""

from __future__ import annotations

from typing import Annotated, Any, Final

import typer
from rich.table import Table

from libs.cli.capacity import environment, since
from libs.cli.output import OUTPUT, Output, one_line_errors, show, table
from libs.cli.reports import reported

PROGRAM: Final = "services.capacity_manager"
READ_S_MAX: Final = 60.0  # A page of a table at a time.
SILENT: Final = "capacity-manager's records can't be read"

app = typer.Typer(no_args_is_help=True, help="Machines that are held: list them, replace one; for operators.")


@app.command(name="list")
@one_line_errors
def list_nodes(output: Output = OUTPUT) -> None:
    """Every node that is held: by whom, of which type, since when, and how it is."""
    found = _asked("list")["nodes"]
    show(output, {"items": found}, lambda: _table(found))


@app.command()
@one_line_errors
def replace(
    node: Annotated[str, typer.Argument(help="As `millrace nodes list` calls it.")],
    reason: Annotated[str, typer.Option(help="Why: kept, and told with everything that comes of it.")],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say whether it could be; change nothing.")] = False,
    output: Output = OUTPUT,
) -> None:
    """Have another machine in place of a node, without cutting a stream: one node of a cluster at a time.

    Where its type has a free machine, that one serves before the old one goes; where it has none, requests wait
    meanwhile. Follow it with `millrace nodes list`, or as node.* in `millrace events tail`.
    """
    found = _asked("replace", node, "--reason", reason, *(("--dry-run",) if dry_run else ()))
    show(output, found, lambda: _said(found))


@app.command()
@one_line_errors
def roll(
    tier: Annotated[str, typer.Argument(help="Of whose clusters, an endpoint's own or shared.")],
    template: Annotated[str, typer.Argument(help="NAME@VERSION: a version that is in the templates directory.")],
    reason: Annotated[str, typer.Option(help="Why: kept, and told with everything that comes of it.")],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be rolled; change nothing.")] = False,
    output: Output = OUTPUT,
) -> None:
    """Give the clusters of a tier another version of their template, and their nodes with it, as `replace` does.

    Each cluster replaces one node at a time; clusters go on side by side, as free machines let them.
    """
    found = _asked("roll", tier, template, "--reason", reason, *(("--dry-run",) if dry_run else ()))
    show(output, found, lambda: _rolled(found))


def _asked(*arguments: str) -> dict[str, Any]:
    return reported(PROGRAM, *arguments, env=environment(), within_s=READ_S_MAX, silent=SILENT)


def _said(found: dict[str, Any]) -> str:
    when = f"after {found['ahead']} others of its cluster" if found["ahead"] else "now"
    if found["dry_run"]:
        return f"{found['node']} of {found['holder']} could be replaced {when}; nothing was changed"
    return f"{found['node']} of {found['holder']} is being replaced {when}: {found['reason']}"


def _rolled(found: dict[str, Any]) -> str:
    clusters = len(found["clusters"])
    what = f"{clusters} cluster{'' if clusters == 1 else 's'} with {found['nodes']} nodes"
    if found["dry_run"]:
        return f"{what} could become {found['template']}; nothing was changed"
    return f"{what} become {found['template']}, one node of each at a time"


def _table(found: list[dict[str, Any]]) -> Table | str:
    if not found:
        return "No node is held."
    rows = [
        (
            each["node"],
            each["holder"],
            each["tenant_id"] or "-",
            each["node_type"],
            each["gpus"],
            each["state"],
            each["why"],
            since(each["since_ms"]),
        )
        for each in found
    ]
    columns = ("node", "held by", "tenant", "node type", "GPUs", "state", "why", "for")
    return table(columns, rows, whole=("node", "held by"), right=("GPUs", "for"))
