"""The `millrace` command: its verbs, one line of help each."""

from __future__ import annotations

import asyncio
import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from libs.cli import demo as demonstration
from libs.cli import endpoints, keys, local
from libs.cli.client import Client, Credentials
from libs.cli.output import OUTPUT, Output, console, one_line_errors, show, table
from libs.cli.profile import DEFAULT_SETTINGS, Home, read_settings
from libs.common.bus.tail import Stored, tail

app = typer.Typer(
    no_args_is_help=True, add_completion=True, help="Millrace: inference endpoints, from command to bill."
)
app.add_typer(endpoints.app, name="endpoints")
app.add_typer(keys.app, name="keys")
events = typer.Typer(no_args_is_help=True, help="The event streams, as operators read them.")
app.add_typer(events, name="events")

Settings = Annotated[Path, typer.Option("--settings", help="Settings file of the local profile (TOML).")]


@app.command()
@one_line_errors
def up(settings: Settings = DEFAULT_SETTINGS) -> None:
    """Start everything on this machine and leave it running."""
    home = Home.default()
    local.up(home, read_settings(settings), progress=lambda line: console.print(f"[green]✓[/] {line}"))
    found = json.loads(home.credentials.read_text())
    console.print()
    console.print(
        table(
            ("what", "where"),
            [
                ("endpoint API", f"{found['api_url']}/v1"),
                ("model traffic (OpenAI)", found["router_url"]),
                ("usage", f"{found['usage_url']}/v1/usage"),
                ("events (NATS)", found["nats_url"]),
                ("simulated cloud", f"{found['twin_url']}/twin/v1/inventory"),
                ("key", f"in {home.credentials}"),
                ("logs", str(home.logs)),
            ],
        )
    )


@app.command()
@one_line_errors
def down() -> None:
    """Stop what `up` started."""
    console.print("stopped" if local.down(Home.default()) else "was not running")


@app.command()
@one_line_errors
def status(output: Output = OUTPUT) -> None:
    """Say which processes run, and which are ready."""
    found = [asdict(each) for each in local.health(Home.default())]
    rows = [(each["name"], each["pid"] or "", "yes" if each["ready"] else "no", each["restarts"]) for each in found]
    show(output, found, lambda: table(("process", "pid", "ready", "restarts"), rows) if rows else "nothing is running")
    if not found or not all(each["ready"] for each in found):
        raise typer.Exit(1)


@app.command()
@one_line_errors
def chat(
    name: Annotated[str, typer.Argument(help="Name of the endpoint.")],
    prompt: Annotated[str, typer.Argument(help="What to say to the model.")],
    max_tokens: Annotated[int, typer.Option(help="Most tokens in the answer.")] = 64,
    output: Output = OUTPUT,
) -> None:
    """Ask an endpoint something and stream its answer."""
    usage: dict[str, Any] = {}
    parts = []
    for chunk in Client(Credentials.read(Home.default())).chat(model=name, prompt=prompt, max_tokens=max_tokens):
        usage = chunk.get("usage") or usage
        for choice in chunk["choices"]:
            parts.append(choice["delta"].get("content") or "")
            if output is Output.TABLE:
                console.out(parts[-1], end="", highlight=False)
    if output is Output.TABLE:
        console.print(f"\n[dim]{usage.get('prompt_tokens')} prompt + {usage.get('completion_tokens')} tokens[/]")
    else:
        show(output, {"content": "".join(parts), "usage": usage}, lambda: "")


@app.command()
@one_line_errors
def usage(
    endpoint: Annotated[str | None, typer.Option(help="Only this endpoint (id).")] = None, output: Output = OUTPUT
) -> None:
    """What was used, as the ledger has it."""
    found = Client(Credentials.read(Home.default())).usage("/v1/usage", query={"endpoint": endpoint})
    show(output, found, lambda: demonstration.usage_table(found))


@app.command()
@one_line_errors
def tiers(output: Output = OUTPUT) -> None:
    """The tiers on offer."""
    _catalogue("tiers", output)


@app.command()
@one_line_errors
def models(output: Output = OUTPUT) -> None:
    """The models on offer."""
    _catalogue("models", output)


@app.command()
@one_line_errors
def demo(settings: Settings = DEFAULT_SETTINGS) -> None:
    """An endpoint from command to bill, shown step by step, then everything stopped."""
    demonstration.run(Home.default(), read_settings(settings))


@events.command("tail")
@one_line_errors
def tail_(
    stream: Annotated[str, typer.Option(help="MR_EVT, MR_USAGE, MR_LOAD, MR_CMD or MR_DLQ.")] = "MR_EVT",
    subject: Annotated[str, typer.Option(help="NATS subject filter.")] = ">",
    from_sequence: Annotated[int, typer.Option(help="Stream sequence to begin with.")] = 1,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Wait for more.")] = False,
    output: Output = OUTPUT,
) -> None:
    """Print a stream's events in order."""
    url = Credentials.read(Home.default()).nats_url

    async def read() -> None:
        async for each in tail(url, stream=stream, subject=subject, from_sequence=from_sequence, follow=follow):
            if output is Output.JSON:
                sys.stdout.write(json.dumps(_document(each)) + "\n")
            else:
                _print_event(each)

    asyncio.run(read())


def _document(stored: Stored) -> dict[str, Any]:
    headers = stored.message.headers
    attributes = {name.removeprefix("ce-"): value for name, value in headers.items() if name.startswith("ce-")}
    return {"stream_sequence": stored.sequence, **attributes, "data": json.loads(stored.message.body or b"null")}


def _print_event(stored: Stored) -> None:
    event = _document(stored)
    data = json.dumps(event["data"])
    console.print(
        f"[dim]{event['stream_sequence']:>6} {event.get('time', '')}[/] [bold]{event.get('type', '?')}[/] "
        f"{event.get('subject', '')} [dim]{data if len(data) <= 200 else data[:199] + '…'}[/]",
        highlight=False,
        soft_wrap=True,
    )


def _catalogue(what: str, output: Output) -> None:
    found = Client(Credentials.read(Home.default())).call("GET", f"/v1/{what}")
    items = found["items"]
    columns = list(items[0]) if items else []
    show(output, found, lambda: table(columns, [[_cell(each[name]) for name in columns] for each in items]))


def _cell(value: object) -> object:
    return ", ".join(map(str, value)) if isinstance(value, list) else value


def main() -> None:
    """The console script."""
    app()
