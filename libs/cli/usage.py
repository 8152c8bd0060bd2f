"""`millrace usage`: what was used and what it cost, as a table, charts, a page to pass on, or one request's receipt."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Final

import typer

from libs.cli.client import Client
from libs.cli.credentials import Credentials
from libs.cli.output import OUTPUT, Output, console, one_line_errors, show
from libs.cli.profile import Home
from libs.cli.reconcile import statement, statements
from libs.cli.usage_page import Usage, page
from libs.cli.usage_plot import plotted
from libs.cli.usage_series import Span, moment_ms, span_of
from libs.cli.usage_tables import breakdown_table, receipt_table, usage_table
from libs.client.transport import segment
from libs.common.clock import SystemClock
from libs.common.errors import Invalid

BY_HELP: Final = (
    "Group by some of tenant, project, endpoint, model, generation, tier, class, region, tenancy, key, adapter, "
    "account, hour, day; with commas."
)
FROM_HELP: Final = "From this time on: RFC 3339, epoch ms, or so long ago, like 24h or 7d."
TO_HELP: Final = "Up to this time, which is not included."
ID_BEGINS: Final = "ep-"
PLOT_LAST: Final = "24h"
REPORT_LAST: Final = "30d"

From = Annotated[str | None, typer.Option("--from", help=FROM_HELP)]
To = Annotated[str | None, typer.Option("--to", help=TO_HELP)]
Endpoint = Annotated[str | None, typer.Option(help="Only this endpoint (name, or id as of one that is deleted).")]

app = typer.Typer(invoke_without_command=True)


@app.callback()
@one_line_errors
def usage(
    context: typer.Context,
    endpoint: Endpoint = None,
    by: Annotated[str | None, typer.Option(help=BY_HELP)] = None,
    since: From = None,
    until: To = None,
    plot: Annotated[bool, typer.Option("--plot", help="Charts over time rather than a table.")] = False,
    output: Output = OUTPUT,
) -> None:
    """What was used, as the ledger has it. GPU time is that of all GPUs together, by what the endpoint was doing."""
    if context.invoked_subcommand is not None:
        return
    if plot:
        if by is not None:
            raise Invalid("--plot shows accounts and tokens over time: leave out --by")
        span = _span(since or PLOT_LAST, until)
        found = _asked(span, endpoint, f"{span.interval},account")
        show(output, found, lambda: plotted(found["items"], span, console))
        return
    now_ms = SystemClock().now_ms()
    times = {"from": since and moment_ms(since, now_ms=now_ms), "to": until and moment_ms(until, now_ms=now_ms)}
    client = _client()
    found = client.usage("/v1/usage", query={"endpoint": _id_of(client, endpoint), "group_by": by, **times})
    show(output, found, lambda: usage_table(found) if by is None else breakdown_table(found))


@app.command()
@one_line_errors
def request(
    request_id: Annotated[str, typer.Argument(help="Its x-request-id, as the answer to it said.")],
    output: Output = OUTPUT,
) -> None:
    """The receipt of one request: the lines of the ledger that it became."""
    found = _client().usage(f"/v1/usage/requests/{segment(request_id)}")
    show(output, found, lambda: receipt_table(found))


@app.command()
@one_line_errors
def report(
    html: Annotated[Path, typer.Option("--html", help="Write the page to this file.")],
    endpoint: Endpoint = None,
    since: From = None,
    until: To = None,
) -> None:
    """A page with charts and tables: of your tenant; with the operator's profile, of the fleet or of a --project."""
    span = _span(since or REPORT_LAST, until)
    credentials = Credentials.read(Home.default())
    used = Usage(
        span=span,
        over_time=_asked(span, endpoint, f"{span.interval},account"),
        by_name=_asked(span, endpoint, "tenant,project,endpoint,model,account"),
        made_ms=SystemClock().now_ms(),
        tenant=credentials.project.partition("/")[0],
    )
    html.write_text(page(used), encoding="utf-8")
    console.print(f"wrote {html}", soft_wrap=True)


app.command()(statements)
app.command()(statement)


def _span(since: str, until: str | None) -> Span:
    now_ms = SystemClock().now_ms()
    return span_of(moment_ms(since, now_ms=now_ms), moment_ms(until, now_ms=now_ms) if until else now_ms)


def _asked(span: Span, endpoint: str | None, by: str) -> dict[str, Any]:
    client = _client()
    query = {"endpoint": _id_of(client, endpoint), "group_by": by, "from": span.from_ms, "to": span.to_ms}
    return client.usage("/v1/usage", query=query)


def _id_of(client: Client, endpoint: str | None) -> str | None:
    """The id, by which the ledger knows an endpoint. Raises Refused for a name that no endpoint of the project has."""
    if not endpoint or endpoint.startswith(ID_BEGINS):
        return endpoint
    return str(client.api.endpoints.get(endpoint)["id"])


def _client() -> Client:
    return Client(Credentials.read(Home.default()))
