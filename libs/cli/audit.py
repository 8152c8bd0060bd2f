"""`millrace audit`: who changed what, and whether nobody changed that."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Final

import typer
from rich.table import Table

from libs.cli.client import Credentials, Json, api
from libs.cli.output import EXIT_FAILED, OUTPUT, Output, moment, one_line_errors, show, table
from libs.cli.profile import Home
from libs.cli.programs import database_of
from libs.common.audit import Sealed, flaws
from libs.common.bus.tail import tail
from libs.common.events.audit import AuditRecorded
from libs.common.events.envelope import from_wire
from libs.common.events.event import Owner

if TYPE_CHECKING:
    from libs.common.store.port import Store

PAGE: Final = 1000
SUBJECT: Final = "mr.v1.evt.endpoint-api.audit-recorded.>"

app = typer.Typer(no_args_is_help=True, help="Who changed what.")


@app.command("list")
@one_line_errors
def list_(
    after: Annotated[int, typer.Option(help="Begin behind this row.")] = 0,
    limit: Annotated[int, typer.Option(help="Most rows.")] = 50,
    output: Output = OUTPUT,
) -> None:
    """List the changes that were asked for, oldest first; --output json has requests and hashes too."""
    found = api().audit.page(after=after, limit=limit)
    show(output, found, lambda: listing(found))


def listing(found: Json) -> Table:
    """A page of rows, and how to see those behind it."""
    columns = ("row", "at (UTC)", "actor", "action", "target")
    rows = [(each["seq"], moment(each["at"]), each["actor"], each["action"], each["target"]) for each in found["items"]]
    drawn = table(columns, rows, whole=columns[:4])
    if found["next_after"] is not None:
        drawn.caption, drawn.caption_justify = f"more: millrace audit list --after {found['next_after']}", "left"
    return drawn


@app.command()
@one_line_errors
def verify(
    database: Annotated[str, typer.Option(help="endpoint-api's database URL; left out: of `millrace up`.")] = "",
    nats: Annotated[str, typer.Option(help="NATS URL; left out: of `millrace up`.")] = "",
    output: Output = OUTPUT,
) -> None:
    """Check the whole audit against itself and against what the bus was told. Exit code 1 if something is wrong."""
    from libs.common.store.sql import SqlStore  # Half a second to load, and no other verb needs it.

    home = Home.default()
    store = SqlStore(database or database_of(home, Owner.ENDPOINT_API))
    try:
        told = asyncio.run(_told(nats or Credentials.read(home).nats_url))
        rows = list(_rows(store))
    finally:
        store.close()
    found = [{"row": each.seq, "message": each.message} for each in flaws(rows, told)]
    answer = {"rows": len(rows), "told": len(told), "flaws": found}
    show(output, answer, lambda: _report(len(rows), len(told), found))
    if found:
        raise typer.Exit(EXIT_FAILED)


def _report(rows: int, told: int, found: list[dict[str, object]]) -> Table | str:
    if found:
        return table(("row", "what is wrong"), [(each["row"], each["message"]) for each in found])
    return f"[green]✓[/] {rows} rows, {told} of them known to the bus: nothing was edited, deleted or cut off"


def _rows(store: Store) -> Iterator[Sealed]:
    page = store.deeds(limit=PAGE)
    while page:
        yield from page
        page = store.deeds(after=page[-1].seq, limit=PAGE)


async def _told(url: str) -> dict[int, str]:
    """The hashes that the bus was told, by row."""
    told: dict[int, str] = {}
    async for each in tail(url, stream="MR_EVT", subject=SUBJECT):
        data = from_wire(each.message.headers, each.message.body).data
        assert isinstance(data, AuditRecorded), data.kind
        told[data.seq] = data.hash
    return told
