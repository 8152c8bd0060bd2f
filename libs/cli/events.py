"""`millrace events`: the event streams, as operators read them."""

from __future__ import annotations

import asyncio
import base64
import json
import sys
from collections.abc import Mapping
from typing import Annotated, Any, Final

import typer
from rich.console import Console
from rich.text import Text

from libs.cli.client import Credentials
from libs.cli.output import OUTPUT, Output, console, one_line_errors
from libs.cli.profile import Home
from libs.cli.usage_series import moment_ms
from libs.common.bus.tail import Stored, tail
from libs.common.clock import SystemClock

app = typer.Typer(no_args_is_help=True, help="The event streams, as operators read them.")

FROM_HELP: Final = "From this time on: RFC 3339, epoch ms, or so long ago, like 24h; instead of a sequence."
DEAD: Final = "mr-dead-"
SAID_ELSEWHERE: Final = frozenset({"tenant_id", "project_id", "endpoint_id"})  # In the subject, or the same for all.


@app.callback()
def events() -> None:
    """Make `tail` a verb of its own, though it is the only one."""


@app.command("tail")
@one_line_errors
def tail_(
    stream: Annotated[str, typer.Option(help="MR_EVT, MR_USAGE, MR_LOAD, MR_CMD or MR_DLQ.")] = "MR_EVT",
    subject: Annotated[str, typer.Option(help="NATS subject filter.")] = ">",
    from_sequence: Annotated[int, typer.Option(min=1, help="Stream sequence to begin with.")] = 1,
    since: Annotated[str | None, typer.Option("--from", help=FROM_HELP)] = None,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Wait for more.")] = False,
    output: Output = OUTPUT,
) -> None:
    """Print a stream's events in order, one a line; json has all of each."""
    url = Credentials.read(Home.default()).nats_url
    from_ms = None if since is None else moment_ms(since, now_ms=SystemClock().now_ms())

    async def read() -> None:
        async for each in tail(
            url, stream=stream, subject=subject, from_sequence=from_sequence, from_ms=from_ms, follow=follow
        ):
            event = document(each)
            if output is Output.JSON:
                sys.stdout.write(json.dumps(event) + "\n")
                sys.stdout.flush()
            else:
                print_line(line(event), console)

    asyncio.run(read())


def print_line(text: Text, console: Console) -> None:
    """A terminal shows the beginning of a long line; a file gets all of it."""
    is_seen = console.is_terminal
    console.print(text, no_wrap=True, overflow="ellipsis" if is_seen else "ignore", crop=is_seen)


def document(stored: Stored) -> dict[str, Any]:
    """A stored event as JSON: its place in the stream, its CloudEvents attributes, its data; of a dead letter, why.

    What is no JSON, as a dead letter may be, is `data_base64`, as CloudEvents has it.
    """
    headers, body = stored.message.headers, stored.message.body
    attributes = {name.removeprefix("ce-"): value for name, value in headers.items() if name.startswith("ce-")}
    dead = {
        name.removeprefix("mr-").replace("-", "_"): value for name, value in headers.items() if name.startswith(DEAD)
    }
    found = {"stream_sequence": stored.sequence, **attributes, **dead}
    try:
        return {**found, "data": json.loads(body or b"null")}
    except (ValueError, RecursionError):
        return {**found, "data": None, "data_base64": base64.b64encode(body).decode()}


def line(event: Mapping[str, Any]) -> Text:
    """An event in one line: place, time of day, type, subject, and what it says."""
    said = {name: value for name, value in event.items() if name.startswith("dead_") or name == "data_base64"}
    said |= event["data"] if isinstance(event["data"], dict) else {}
    words = (f"{name}={_short(value)}" for name, value in said.items() if name not in SAID_ELSEWHERE and _says(value))
    return Text.assemble(
        (f"{event['stream_sequence']:>6} {str(event.get('time', ''))[11:23]} ", "dim"),
        (_short(event.get("type", "?")), "bold"),
        f" {_short(event.get('subject', ''))} ",
        (" ".join(words), "dim"),
    )


def _says(value: object) -> bool:
    return value not in (None, "", [], {})


def _short(value: object) -> str:
    """Text as it is, unless a terminal would do something else with it than show it."""
    return value if isinstance(value, str) and value.isprintable() else json.dumps(value, separators=(",", ":"))
