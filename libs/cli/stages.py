"""An endpoint's stages as people watch them: what is done and how long it took, what is waited for and from whom."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any, Final

from rich.live import Live
from rich.markup import escape
from rich.table import Table

from libs.cli.client import Client
from libs.cli.output import console, duration
from libs.common.errors import MillraceError

POLL_S: Final = 0.25  # An eye sees no faster; four reads a second are nothing to the API.
AT_REST: Final = frozenset({"ready", "failed", "deleted", "paused", "scaled_to_zero"})
MARKS: Final = {"ready": "[green]●[/]", "failed": "[red]✗[/]", "deleted": "[dim]○[/]"}

Json = dict[str, Any]


def picture(endpoint: Json) -> Table:
    """The stages of an endpoint as a table, the present one last."""
    status = endpoint["status"]
    drawn = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), show_header=False)
    drawn.add_column(no_wrap=True)
    drawn.add_column(justify="right", no_wrap=True)
    drawn.add_column()
    for stage in status["stages"]:
        is_now = stage is status["stages"][-1]
        mark = MARKS.get(stage["name"], "[yellow]▸[/]") if is_now else "[green]✓[/]"
        name = stage["name"].replace("_", " ")
        drawn.add_row(
            f"{mark} {f'[bold]{name}[/]' if is_now else name}",
            "" if is_now and stage["name"] in AT_REST else duration(stage["elapsed_ms"]),
            _note(stage) if is_now else "",
        )
    return drawn


def watch(client: Client, name: str, *, until: frozenset[str], timeout_s: float) -> Json:
    """Draw the stages until one of ``until`` is reached; the endpoint as it is then. Raises MillraceError after."""
    endpoint: Json = {}
    with Live(console=console, refresh_per_second=8, transient=False) as live:
        for endpoint in follow(client, name, until=until, timeout_s=timeout_s):
            live.update(picture(endpoint))
    if not console.is_terminal:
        console.print()  # There the picture is drawn once, at the end, and its last line is left open.
    return endpoint


def follow(client: Client, name: str, *, until: frozenset[str], timeout_s: float) -> Iterator[Json]:
    """The endpoint, again and again, up to the time that its stage is one of ``until``."""
    deadline_s = time.monotonic() + timeout_s
    while True:
        endpoint = client.call("GET", f"/v1/endpoints/{name}")
        yield endpoint
        stage = endpoint["status"]["stage"]
        if stage in until:
            return
        if time.monotonic() > deadline_s:
            raise MillraceError(f"{name} is still {stage} after {timeout_s:.0f} s; it goes on without us")
        time.sleep(POLL_S)


def _note(stage: Json) -> str:
    """What people are told of the present stage, and who must act."""
    who, said = stage.get("waiting_on") or "", stage.get("message") or stage.get("reason") or ""
    if who and who not in said:
        said = f"waiting for {who}: {said}"
    return f"[dim]{escape(said)}[/]"
