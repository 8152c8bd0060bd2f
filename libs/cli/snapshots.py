"""`millrace snapshots`: of an endpoint's tenant cluster, and the way back to one; for operators."""

from __future__ import annotations

from typing import Annotated, Any, Final

import typer
from rich.table import Table

from libs.cli.capacity import environment
from libs.cli.output import OUTPUT, Output, one_line_errors, show, table
from libs.cli.reports import reported

PROGRAM: Final = "services.capacity_manager"
WITHIN_S: Final = 1900.0  # Longer than a restore may take.
SILENT: Final = "capacity-manager's records can't be read"

app = typer.Typer(no_args_is_help=True, help="Snapshots of tenant clusters: list, restore; for operators.")

Endpoint = Annotated[str, typer.Argument(help="Id of the endpoint, as `millrace capacity` shows it.")]


@app.command(name="list")
@one_line_errors
def list_snapshots(endpoint: Endpoint, output: Output = OUTPUT) -> None:
    """The snapshots that the Platform took of an endpoint's cluster, by the schedule of its template."""
    found = _asked("snapshots", endpoint)["snapshots"]
    show(output, {"items": found}, lambda: _table(found))


@app.command()
@one_line_errors
def restore(
    endpoint: Endpoint,
    snapshot: Annotated[str, typer.Argument(help="Id of the snapshot.")],
    yes: Annotated[bool, typer.Option("--yes", help="Do it; without, say what it would overwrite.")] = False,
    output: Output = OUTPUT,
) -> None:
    """Go back to a snapshot of the same cluster: says what it overwrites, and does nothing without --yes."""
    found = _asked("restore", endpoint, snapshot, *(("--yes",) if yes else ()))
    show(output, found, lambda: _said(found))


def _asked(*arguments: str) -> dict[str, Any]:
    return reported(PROGRAM, *arguments, env=environment(), within_s=WITHIN_S, silent=SILENT)


def _said(found: dict[str, Any]) -> str:
    begin = "would overwrite" if found["dry_run"] else "overwrote"
    lines = [f"{begin}:", *(f"  {each}" for each in found["overwrites"]), f"by: {' '.join(found['command'])}"]
    return "\n".join([*lines, "nothing was changed; do it with --yes" if found["dry_run"] else found["said"]])


def _table(found: list[dict[str, Any]]) -> Table | str:
    if not found:
        return "None was taken: the cluster's template has no schedule, or its first time has not come."
    rows = [(each["id"], each["at"], each["status"], each["url"]) for each in found]
    return table(("snapshot", "taken at", "status", "where"), rows, whole=("snapshot",))
