"""`millrace endpoints`: create, get, list, watch, delete."""

from __future__ import annotations

from typing import Annotated, Any, Final

import typer
from rich.table import Table

from libs.cli import stages
from libs.cli.client import Client, Credentials
from libs.cli.output import OUTPUT, Output, card, console, one_line_errors, show, table
from libs.cli.profile import Home
from libs.common.errors import MillraceError

app = typer.Typer(no_args_is_help=True, help="Endpoints: a model, served.")

WAIT_S: Final = 600.0
Name = Annotated[str, typer.Argument(help="Name or id of the endpoint.")]
Wait = Annotated[bool, typer.Option("--wait", help="Draw the stages and return when it is done; exit 1 if it failed.")]


def client() -> Client:
    """A client with the credentials of this machine."""
    return Client(Credentials.read(Home.default()))


@app.command()
@one_line_errors
def create(
    name: Annotated[str, typer.Argument(help="What clients put into `model`.")],
    model: Annotated[str, typer.Option(help="Model id; `millrace models` lists them.")],
    tier: Annotated[str, typer.Option(help="Tier; `millrace tiers` lists them.")],
    region: Annotated[str, typer.Option(help="Region; `millrace tiers` lists where each tier is.")] = "eu-1",
    min_replicas: Annotated[int, typer.Option("--min", help="Fewest replicas.")] = 1,
    max_replicas: Annotated[int, typer.Option("--max", help="Most replicas.")] = 1,
    target_concurrency: Annotated[int, typer.Option(help="Requests in flight one replica should carry.")] = 8,
    wait: Wait = False,
    output: Output = OUTPUT,
) -> None:
    """Ask for an endpoint."""
    scaling = {"min": min_replicas, "max": max_replicas, "target_concurrency": target_concurrency}
    spec = {"model": model, "tier": tier, "region": region, "scaling": scaling}
    accepted = client().call("POST", "/v1/endpoints", body={"name": name, "spec": spec})
    if not wait:
        show(output, accepted, lambda: f"accepted as operation {accepted['id']}; `millrace endpoints watch {name}`")
        return
    endpoint = _finish(name, until=frozenset({"ready", "failed"}), output=output)
    if endpoint["status"]["stage"] == "failed":
        raise MillraceError(f"{name} failed: {endpoint['status'].get('message') or endpoint['status'].get('reason')}")


@app.command()
@one_line_errors
def get(name: Name, output: Output = OUTPUT) -> None:
    """Show one endpoint, with its stages."""
    endpoint = client().call("GET", f"/v1/endpoints/{name}")
    if output is Output.TABLE:
        console.print(describe(endpoint))
        console.print()
    show(output, endpoint, lambda: stages.picture(endpoint))


@app.command("list")
@one_line_errors
def list_(output: Output = OUTPUT) -> None:
    """List the endpoints of the key's project."""
    found = client().call("GET", "/v1/endpoints")
    show(output, found, lambda: listing(found["items"]) if found["items"] else "no endpoints")


@app.command()
@one_line_errors
def watch(name: Name, timeout_s: Annotated[float, typer.Option(help="Seconds to watch at most.")] = WAIT_S) -> None:
    """Draw the stages as they pass, until the endpoint is at rest."""
    stages.watch(client(), name, until=stages.AT_REST, timeout_s=timeout_s)


@app.command()
@one_line_errors
def delete(name: Name, wait: Wait = False, output: Output = OUTPUT) -> None:
    """Delete an endpoint: route, runtime and capacity are given back in this order."""
    caller = client()
    endpoint_id = caller.call("GET", f"/v1/endpoints/{name}")["id"]
    accepted = caller.call("DELETE", f"/v1/endpoints/{endpoint_id}")
    if wait:
        _finish(endpoint_id, until=frozenset({"deleted"}), output=output)
    else:
        show(output, accepted, lambda: f"accepted as operation {accepted['id']}")


def listing(endpoints: list[dict[str, Any]]) -> Table:
    """A table of endpoints."""
    return table(
        ("name", "id", "stage", "ready", "model", "tier", "region"),
        [
            (
                each["name"],
                each["id"],
                each["status"]["stage"].replace("_", " "),
                f"{each['status']['replicas']['ready']}/{each['status']['replicas']['desired']}",
                each["spec"]["model"],
                each["spec"]["tier"],
                each["spec"]["region"],
            )
            for each in endpoints
        ],
        whole=("id", "ready", "model", "tier", "region"),
    )


def describe(endpoint: dict[str, Any]) -> Table:
    """One endpoint, a line for each thing to know of it."""
    spec, status = endpoint["spec"], endpoint["status"]
    scaling, replicas = spec["scaling"], status["replicas"]
    return card(
        [
            ("name", endpoint["name"]),
            ("id", endpoint["id"]),
            ("model", f"{spec['model']} ({status['model_state']})"),
            ("where", f"{spec['tier']} in {spec['region']}"),
            (
                "replicas",
                f"{replicas['ready']} of {replicas['desired']} ready (min {scaling['min']}, max {scaling['max']})",
            ),
            ("url", status["url"] or "none; it has one while it is served"),
            ("created", endpoint["created_at"]),
        ]
    )


def _finish(name: str, *, until: frozenset[str], output: Output) -> dict[str, Any]:
    if output is Output.TABLE:
        return stages.watch(client(), name, until=until, timeout_s=WAIT_S)
    *_, endpoint = stages.follow(client(), name, until=until, timeout_s=WAIT_S)
    show(output, endpoint, lambda: "")
    return endpoint
