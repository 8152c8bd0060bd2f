"""`millrace webhooks`: where the project's events are sent, and how that went."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.markup import escape

from libs.cli.client import Json, api
from libs.cli.output import OUTPUT, Output, one_line_errors, show, table

app = typer.Typer(no_args_is_help=True, help="Webhooks: the project's events, sent to a URL of yours, signed.")

Id = Annotated[str, typer.Argument(help="Id of the webhook; `millrace webhooks list` has it.")]


@app.command()
@one_line_errors
def create(
    url: Annotated[str, typer.Argument(help="Where to send them: https, on the public internet.")],
    event: Annotated[
        list[str] | None, typer.Option(help="endpoint.stage_changed, endpoint.* and so on; may be repeated.")
    ] = None,
    output: Output = OUTPUT,
) -> None:
    """Send the project's events to a URL from now on. The secret that signs them is shown this once."""
    made = api().webhooks.create(url, event or ["*"])
    show(output, made, lambda: _secret(made))


@app.command("list")
@one_line_errors
def list_(output: Output = OUTPUT) -> None:
    """List the webhooks, without their secrets."""
    found = {"items": api().webhooks.list()}
    columns = ("id", "state", "events", "url")
    rows = [(each["id"], state(each), ", ".join(each["events"]), each["url"]) for each in found["items"]]
    show(output, found, lambda: table(columns, rows, whole=("id",)) if rows else "no webhooks")


@app.command()
@one_line_errors
def rotate(
    webhook_id: Id,
    overlap: Annotated[int | None, typer.Option(help="Seconds that the old secret signs too; left out: a day.")] = None,
    output: Output = OUTPUT,
) -> None:
    """Make a new secret; the old one signs too for a while. It is shown this once."""
    made = api().webhooks.rotate(webhook_id, overlap_s=overlap)
    show(output, made, lambda: _secret(made))


@app.command()
@one_line_errors
def deliveries(webhook_id: Id, output: Output = OUTPUT) -> None:
    """Say how the newest events were delivered, the newest first."""
    found = {"items": api().webhooks.deliveries(webhook_id)}
    columns = ("event", "type", "at (UTC)", "result")
    rows = [(each["event_id"], each["type"], _second(each["at"]), result(each)) for each in found["items"]]
    show(output, found, lambda: table(columns, rows, whole=columns[:-1]) if rows else "nothing was sent yet")


@app.command()
@one_line_errors
def redeliver(
    webhook_id: Id,
    event_id: Annotated[str, typer.Argument(help="Id of the event; `millrace webhooks deliveries` has it.")],
    output: Output = OUTPUT,
) -> None:
    """Send one of the newest events again, before what waits."""
    answer = api().webhooks.redeliver(webhook_id, event_id)
    show(output, answer, lambda: f"{event_id} is sent again; `millrace webhooks deliveries {webhook_id}`")


@app.command("test")
@one_line_errors
def try_(webhook_id: Id, output: Output = OUTPUT) -> None:
    """Send it a test event, in its turn."""
    answer = api().webhooks.test(webhook_id)
    show(output, answer, lambda: f"a test is on its way; `millrace webhooks deliveries {webhook_id}`")


@app.command()
@one_line_errors
def enable(webhook_id: Id, output: Output = OUTPUT) -> None:
    """Send again to one that was disabled."""
    answer = api().webhooks.enable(webhook_id)
    show(output, answer, lambda: f"{webhook_id} gets events again")


@app.command()
@one_line_errors
def delete(webhook_id: Id, output: Output = OUTPUT) -> None:
    """Send nothing more to it; an attempt that is on its way may still arrive."""
    api().webhooks.delete(webhook_id)
    show(output, {"id": webhook_id}, lambda: f"{webhook_id} is deleted")


def state(webhook: Json) -> str:
    """Whether it gets events, in a few words."""
    if webhook["disabled"]:
        return f"disabled: {webhook['disabled'].replace('_', ' ')}"
    tries = webhook["failed_attempts"]
    return f"failing, {tries} {'try' if tries == 1 else 'tries'}" if tries else "active"


def result(delivery: Json) -> str:
    """How the last attempt of a delivery ended, in a few words."""
    refused = str(delivery["status"]) if delivery["status"] else delivery["error"] or "no answer"
    said = "delivered" if delivery["delivered"] else refused
    return said if delivery["attempts"] == 1 else f"{said}, {delivery['attempts']} tries"


def _second(at: str) -> str:
    """A time to the second, without what makes it too long for a row."""
    return at[:19].replace("T", " ")


def _secret(made: Json) -> str:
    return f"{escape(made['secret'])}\n[dim]id {made['webhook']['id']}; the secret is shown this once, keep it now[/]"
