"""`millrace events`: the event streams, as operators read them."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Mapping
from typing import Annotated, Any, Final

import typer
from rich.text import Text

from libs.cli.client import Credentials
from libs.cli.output import OUTPUT, Output, console, one_line_errors
from libs.cli.profile import Home
from libs.common.bus.tail import Stored, tail

app = typer.Typer(no_args_is_help=True, help="The event streams, as operators read them.")

SAID_ELSEWHERE: Final = frozenset({"tenant_id", "project_id", "endpoint_id"})  # In the subject, or the same for all.


@app.callback()
def events() -> None:
    """Make `tail` a verb of its own, though it is the only one."""


@app.command("tail")
@one_line_errors
def tail_(
    stream: Annotated[str, typer.Option(help="MR_EVT, MR_USAGE, MR_LOAD, MR_CMD or MR_DLQ.")] = "MR_EVT",
    subject: Annotated[str, typer.Option(help="NATS subject filter.")] = ">",
    from_sequence: Annotated[int, typer.Option(help="Stream sequence to begin with.")] = 1,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Wait for more.")] = False,
    output: Output = OUTPUT,
) -> None:
    """Print a stream's events in order, one a line; json has all of each."""
    url = Credentials.read(Home.default()).nats_url

    async def read() -> None:
        async for each in tail(url, stream=stream, subject=subject, from_sequence=from_sequence, follow=follow):
            event = document(each)
            if output is Output.JSON:
                sys.stdout.write(json.dumps(event) + "\n")
                sys.stdout.flush()
            else:
                # A terminal shows the beginning of a long line; a file gets all of it.
                console.print(line(event), no_wrap=True, overflow="ellipsis", crop=console.is_terminal)

    asyncio.run(read())


def document(stored: Stored) -> dict[str, Any]:
    """A stored event as JSON: its place in the stream, its CloudEvents attributes, its data."""
    headers = stored.message.headers
    attributes = {name.removeprefix("ce-"): value for name, value in headers.items() if name.startswith("ce-")}
    return {"stream_sequence": stored.sequence, **attributes, "data": json.loads(stored.message.body or b"null")}


def line(event: Mapping[str, Any]) -> Text:
    """An event in one line: place, time of day, type, subject, and what it says."""
    said = event["data"] if isinstance(event["data"], dict) else {}
    words = (f"{name}={_short(value)}" for name, value in said.items() if name not in SAID_ELSEWHERE and _says(value))
    return Text.assemble(
        (f"{event['stream_sequence']:>6} {str(event.get('time', ''))[11:23]} ", "dim"),
        (str(event.get("type", "?")), "bold"),
        f" {event.get('subject', '')} ",
        (" ".join(words), "dim"),
    )


def _says(value: object) -> bool:
    return value not in (None, "", [], {})


def _short(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value, separators=(",", ":"))
