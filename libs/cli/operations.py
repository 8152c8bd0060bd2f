"""`millrace operations`: what was asked, how it went, and undoing what still runs."""

from __future__ import annotations

from typing import Annotated, Final

import typer
from rich.table import Table

from libs.cli import stages
from libs.cli.client import Json, api
from libs.cli.output import OUTPUT, Output, card, moment, one_line_errors, show, table
from libs.common.errors import MillraceError

app = typer.Typer(no_args_is_help=True, help="Operations: one for each change that was accepted.")

WAIT_S: Final = 600.0
Id = Annotated[str, typer.Argument(help="Id of the operation.")]


@app.command("list")
@one_line_errors
def list_(
    endpoint: Annotated[str | None, typer.Option(help="Only those of this endpoint (name or id).")] = None,
    status: Annotated[str | None, typer.Option(help="Only those that stand so, such as running.")] = None,
    output: Output = OUTPUT,
) -> None:
    """List the operations of the project."""
    found = list(api().operations.list(endpoint=endpoint, status=status))
    show(output, {"items": found}, lambda: _listing(found) if found else "no operations")


@app.command()
@one_line_errors
def get(operation_id: Id, output: Output = OUTPUT) -> None:
    """Show one operation."""
    found = api().operations.get(operation_id)
    show(output, found, lambda: _card(found))


@app.command()
@one_line_errors
def watch(operation_id: Id, output: Output = OUTPUT) -> None:
    """Draw the stages of its endpoint until it has ended; exit 1 if it did not succeed."""
    client = api()
    found = client.operations.get(operation_id)
    stages.see(client, found["endpoint_id"], operation_id, timeout_s=WAIT_S, drawn=output is Output.TABLE)
    done = client.operations.get(operation_id)
    show(output, done, lambda: _card(done))
    if done["status"] != "succeeded":
        raise MillraceError(f"{done['verb']} {done['status'].replace('_', ' ')}: {done['message']}")


@app.command()
@one_line_errors
def receipt(operation_id: Id, output: Output = OUTPUT) -> None:
    """List the answers that the operation cut short when their time to drain was over; each is billed for what came."""
    found = api().operations.get(operation_id)
    show(output, {"streams_cut": found["streams_cut"], "items": found["receipt"]}, lambda: _receipt(found))


@app.command()
@one_line_errors
def pause(operation_id: Id, output: Output = OUTPUT) -> None:
    """Hold a rollout where it is: old and new replicas serve side by side until it is resumed or cancelled."""
    found = api().operations.pause(operation_id)
    show(output, found, lambda: _card(found))


@app.command()
@one_line_errors
def resume(operation_id: Id, output: Output = OUTPUT) -> None:
    """Let a rollout that was paused go on."""
    found = api().operations.resume(operation_id)
    show(output, found, lambda: _card(found))


@app.command()
@one_line_errors
def cancel(operation_id: Id, output: Output = OUTPUT) -> None:
    """Undo what still runs: an update goes back to what ran before, a create is deleted."""
    found = api().operations.cancel(operation_id)
    show(output, found, lambda: _card(found))


def _listing(operations: list[Json]) -> Table:
    columns = ("operation", "verb", "endpoint", "status", "accepted", "message")
    fields = ("id", "verb", "endpoint_id", "status", "accepted_at", "message")
    return table(columns, [[_said(name, each[name]) for name in fields] for each in operations], whole=columns[:4])


def _card(operation: Json) -> Table:
    shown = [(name, value) for name, value in operation.items() if value not in (None, "") and name != "receipt"]
    return card([(name.replace("_", " "), _said(name, value)) for name, value in shown])


def _said(name: str, value: object) -> object:
    """A field as people read it."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    return moment(str(value)) if name.endswith("_at") else value


def _receipt(operation: Json) -> Table | str:
    listed, count = operation["receipt"], operation["streams_cut"]
    if not count:
        return f"{operation['id']} cut nothing short"
    fields = ("request_id", "completion_tokens", "cut_at")
    rows = [[each[name] for name in fields] for each in listed]
    if count > len(listed):
        rows.append([f"and {count - len(listed)} more", "", ""])
    return table(("request", "tokens delivered", "cut at"), rows, whole=("request",))
