"""An endpoint's stages as people watch them: what is done and how long it took, what is waited for and from whom."""

from __future__ import annotations

import json
import time
from collections import deque
from collections.abc import Iterator
from typing import Final

from rich.live import Live
from rich.markup import escape
from rich.table import Table

from libs.cli.forecasts import about, left, now_of, ready_in
from libs.cli.output import console, duration
from libs.client import Json, Millrace
from libs.client.endpoints import POLL_S
from libs.common.errors import MillraceError

AT_REST: Final = frozenset({"ready", "failed", "deleted", "paused", "scaled_to_zero"})
MARKS: Final = {"ready": "[green]●[/]", "failed": "[red]✗[/]", "deleted": "[dim]○[/]", "paused": "[yellow]●[/]"}


def picture(endpoint: Json) -> Table:
    """The stages of an endpoint as a table: those that are past, the present one, those to come."""
    stages = endpoint["status"]["stages"]
    coming = {each["name"] for each in stages if each["is_upcoming"]}
    drawn = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), show_header=False)
    drawn.add_column(no_wrap=True)
    drawn.add_column(justify="right", no_wrap=True)
    drawn.add_column()
    for stage in stages:
        if stage["is_upcoming"]:
            drawn.add_row(f"[dim]· {_name(stage)}[/]", "", _usually(stage))
        elif stage["is_current"]:
            is_resting = stage["name"] in AT_REST
            mark = MARKS.get(stage["name"], "[yellow]▸[/]")
            elapsed = "" if is_resting else duration(stage["elapsed_ms"])
            drawn.add_row(f"{mark} [bold]{_name(stage)}[/]", elapsed, _note(stage))
        elif stage["name"] not in coming:  # Of an earlier life, it is walked again.
            said = f"[dim]{escape(stage['message'])}[/]"
            drawn.add_row(f"[green]✓[/] {_name(stage)}", duration(stage["elapsed_ms"]), said)
    if coming:
        expected = ready_in(endpoint["status"], now_of(endpoint))
        drawn.add_row("[dim]· ready[/]", "", f"in {expected}" if expected else "")
    return drawn


def watch(client: Millrace, name: str, *, until: frozenset[str], timeout_s: float) -> Json:
    """Draw the stages until one of ``until`` is reached; the endpoint as it is then. Raises MillraceError after."""
    return _draw(client.endpoints.follow(name, until=until, timeout_s=timeout_s))


def see(client: Millrace, name: str, operation_id: str, *, timeout_s: float, drawn: bool) -> Json:
    """The endpoint once an operation on it has ended, its stages drawn meanwhile if they are to be."""
    following = _until_ended(client, name, operation_id, timeout_s)
    return _draw(following) if drawn else deque(following, maxlen=1)[0]


def compact(event: Json) -> str:
    """An event in one line of JSON."""
    return json.dumps(event, separators=(",", ":"))


def _until_ended(client: Millrace, name: str, operation_id: str, timeout_s: float) -> Iterator[Json]:
    deadline_s = time.monotonic() + timeout_s
    while (operation := client.operations.get(operation_id))["status"] == "running":
        yield client.endpoints.get(name)
        if time.monotonic() > deadline_s:
            raise MillraceError(f"{operation['verb']} still runs after {timeout_s:.0f} s; it goes on without us")
        time.sleep(POLL_S)
    yield client.endpoints.get(name)


def _draw(following: Iterator[Json]) -> Json:
    endpoint: Json = {}
    with Live(console=console, refresh_per_second=8, transient=False) as live:
        for endpoint in following:
            live.update(picture(endpoint))
    if not console.is_terminal:
        console.print()  # There the picture is drawn once, at the end, and its last line is left open.
    return endpoint


def _name(stage: Json) -> str:
    return str(stage["name"].replace("_", " "))


def _usually(stage: Json) -> str:
    """What a stage to come takes."""
    return f"[dim]usually {about(stage['eta_p50_ms'])}[/]" if stage["eta_p50_ms"] is not None else ""


def _note(stage: Json) -> str:
    """What people are told of the present stage: how much is left, what goes on, and who must act."""
    who, said = stage.get("waiting_on") or "", stage.get("message") or stage.get("reason") or ""
    if who and who not in said:
        said = f"waiting for {who}: {said}"
    rest = left(stage["eta_p50_ms"], stage["eta_p90_ms"])
    return "\n".join(each for each in (rest, f"[dim]{escape(said)}[/]") if each)
