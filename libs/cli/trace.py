"""`millrace trace`: from an endpoint's URL back to the pods that answer on it, link by link; for operators."""

from __future__ import annotations

import asyncio
import json
import os
from typing import Annotated, Any, Final

import typer
from rich.table import Table

from libs.cli.client import Credentials, Json, api
from libs.cli.output import OUTPUT, Output, card, console, one_line_errors, show, table
from libs.cli.profile import Home
from libs.cli.programs import database_of
from libs.cli.reports import reported
from libs.common.bus.tail import tail
from libs.common.events.event import Owner

PROGRAM: Final = "services.runtime_deployer.shell.tracing"
READ_S_MAX: Final = 60.0
STREAM: Final = "KV_routes"


@one_line_errors
def trace(name: Annotated[str, typer.Argument(help="Name or id of the endpoint.")], output: Output = OUTPUT) -> None:
    """From the URL back to route, cluster, node type, template version and pods, as each owner has it.

    Of the local profile, or of the service whose MILLRACE_ settings are in the environment. Nothing is changed.
    """
    endpoint = api().endpoints.get(name)
    route = asyncio.run(_route(endpoint["id"]))
    found: Json = {"endpoint": endpoint, "route": route, "runtime": _runtime(endpoint["id"])}
    found["breaks"] = breaks(found)
    show(output, found, lambda: links(found))
    if output is Output.TABLE:
        console.print("", pods(found), "", *(found["breaks"] or ["Every link holds."]), sep="\n")


async def _route(endpoint_id: str) -> Json | None:
    """The newest entry in the bucket that routers serve from; None if it has none."""
    url, newest = Credentials.read(Home.default()).nats_url, b""
    async for each in tail(url, stream=STREAM, subject=f"$KV.routes.{endpoint_id}"):
        newest = each.message.body
    found: Json | None = json.loads(newest) if newest else None
    return found


def _runtime(endpoint_id: str) -> Json:
    silent = "runtime-deployer's records can't be read"
    return reported(PROGRAM, endpoint_id, env=environment(), within_s=READ_S_MAX, silent=silent)


def environment() -> dict[str, str]:
    """Where runtime-deployer's records are: as the environment says, or those of the local profile."""
    if "MILLRACE_DATABASE_URL" in os.environ:
        return dict(os.environ)
    return {**os.environ, "MILLRACE_DATABASE_URL": database_of(Home.default(), Owner.RUNTIME_DEPLOYER)}


def links(found: Json) -> Table:
    """The way, a line for each link."""
    endpoint, route, runtime = found["endpoint"], found["route"], found["runtime"]
    spec = endpoint["spec"]
    return card(
        [
            ("url", endpoint["status"]["url"] or "none"),
            ("endpoint", f"{endpoint['name']} ({endpoint['id']}), {_words(endpoint['status']['stage'])}"),
            ("route", _route_in_words(route)),
            ("cluster", f"{runtime['cluster']} in {runtime['platform_project']}" if runtime["cluster"] else "none yet"),
            ("tenancy", f"{_words(runtime['tenancy'])}, tier {spec['tier']} in {spec['region']}"),
            ("node type", f"{runtime['node_type']}, GPUs a replica: {runtime['gpus_per_replica']}"),
            ("template", f"{runtime['template']}, {runtime['image']}"),
            ("model", f"{runtime['model']} {runtime['model_digest'][:19]}"),
            ("runtime", f"{_words(runtime['stage'])}, generation {runtime['generation']}, recipe {runtime['recipe']}"),
        ]
    )


def pods(found: Json) -> Table | str:
    """The pods, each with its node and whether requests reach it."""
    runtime = found["runtime"]
    if not runtime["pods"]:
        return f"no pod in namespace {runtime['namespace']}"
    urls = {each["url"] for each in (found["route"] or {}).get("replicas", ())}
    rows = [
        (
            each["name"],
            each["node"] or "none yet",
            each["url"].removeprefix("http://") or "none yet",
            _state(each, is_routed=each["url"] in urls),
        )
        for each in runtime["pods"]
    ]
    return table(("pod", "node", "address", "state"), rows, whole=("pod", "node", "address"))


def breaks(found: Json) -> list[str]:
    """Where one owner's word does not fit another's; empty if every link holds."""
    route, runtime = found["route"], found["runtime"]
    replicas = {each["url"]: each["name"] for each in (route or {}).get("replicas", ())}
    known = {each["url"] for each in runtime["pods"]}
    serving = {each["url"]: each["name"] for each in runtime["pods"] if each["serves"]}
    lines = [
        f"the route leads to {name} at {url}, and no pod is there" for url, name in replicas.items() if url not in known
    ]
    lines += [
        f"{name} serves at {url}, and no route leads there" for url, name in serving.items() if url not in replicas
    ]
    if route is not None and route["generation"] != runtime["generation"]:
        lines.append(f"the route is of generation {route['generation']}, the runtime of {runtime['generation']}")
    if runtime["delay"]:
        lines.append(f"the cluster did not do as asked: {runtime['delay']}")
    return lines


def _route_in_words(route: Json | None) -> str:
    if route is None:
        return "none: nobody is let in"
    count = len(route["replicas"])
    how = "paused" if route["paused"] else "holds who comes" if route.get("replacing") and not count else "lets in"
    offers = f", adapters {', '.join(route['adapters'])}" if route.get("adapters") else ""
    return (
        f"generation {route['generation']} in bucket routes, {how}, {count} replica{'s' if count != 1 else ''}{offers}"
    )


def _state(pod: dict[str, Any], *, is_routed: bool) -> str:
    said = "drains" if pod["terminating"] else "starts"
    if pod["serves"]:
        said = "routed" if is_routed else "serves, not routed"
    return said if pod["is_newest"] else f"{said}, old recipe"


def _words(text: str) -> str:
    return text.replace("_", " ")
