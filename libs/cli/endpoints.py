"""`millrace endpoints`: every verb of the API, with what people want to see of it."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Annotated, Any, Final

import typer

from libs.cli import stages
from libs.cli.client import Json, api
from libs.cli.endpoint_views import causes, describe, listing, plan
from libs.cli.output import OUTPUT, Output, console, one_line_errors, show
from libs.client import Millrace
from libs.common.clock import SystemClock
from libs.common.errors import MillraceError

app = typer.Typer(no_args_is_help=True, help="Endpoints: a model, served.")

WAIT_S: Final = 600.0
Name = Annotated[str, typer.Argument(help="Name or id of the endpoint.")]
Wait = Annotated[bool, typer.Option("--wait", help="Return when it is done; exit 1 if it did not succeed.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Say what would happen, and change nothing.")]
Adapters = Annotated[
    list[str] | None,
    typer.Option("--adapter", help="NAME=OWNER/REPOSITORY:RANK, once for each; an update gives all there shall be."),
]
Hostname = Annotated[
    str | None,
    typer.Option(help="A host name below a domain of yours (`millrace domains`); '' takes it away."),
]
ADAPTER: Final = re.compile(r"(?P<name>[^=]+)=(?P<source>[^:]+):(?P<rank>[0-9]{1,4})")
IdleToZero = Annotated[
    int | None,
    typer.Option(
        "--idle-to-zero", help="Seconds without a request after which nothing runs; the next one wakes it. 0: never."
    ),
]
Drain = Annotated[int | None, typer.Option("--drain-deadline", help="Seconds that live streams may still run.")]


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
    idle_to_zero: IdleToZero = None,
    template: Annotated[str, typer.Option(help="Runtime recipe; left out: the tier's newest.")] = "",
    adapter: Adapters = None,
    hostname: Hostname = None,
    wait: Wait = False,
    dry_run: DryRun = False,
    output: Output = OUTPUT,
) -> None:
    """Ask for an endpoint."""
    scaling = {"min": min_replicas, "max": max_replicas, "target_concurrency": target_concurrency}
    scaling |= _sleep(idle_to_zero)
    spec: Json = {"model": model, "tier": tier, "region": region, "scaling": scaling, "template": template}
    if adapter:
        spec["adapters"] = [_adapter(each) for each in adapter]
    if hostname:
        spec["hostname"] = hostname
    _ask(lambda client: client.endpoints.create(name, spec, dry_run=dry_run), wait=wait, output=output)


@app.command()
@one_line_errors
def update(
    name: Name,
    model: Annotated[str | None, typer.Option(help="Another model.")] = None,
    template: Annotated[str | None, typer.Option(help="Another runtime recipe.")] = None,
    rpm: Annotated[int | None, typer.Option(help="Requests per minute; 0: no limit.")] = None,
    tpm: Annotated[int | None, typer.Option(help="Tokens per minute; 0: no limit.")] = None,
    at_once: Annotated[int | None, typer.Option(help="Requests at once, waiting ones too; 0: no limit.")] = None,
    adapter: Adapters = None,
    no_adapters: Annotated[bool, typer.Option("--no-adapters", help="Let go of all adapters.")] = False,
    hostname: Hostname = None,
    if_generation: Annotated[int | None, typer.Option(help="Only if nobody changed it since this generation.")] = None,
    wait: Wait = False,
    dry_run: DryRun = False,
    output: Output = OUTPUT,
) -> None:
    """Change what it runs or what it takes; what is left out stays as it is."""
    said = _given(requests_per_minute=rpm, tokens_per_minute=tpm, concurrency=at_once)
    limits = {name: value or None for name, value in said.items()}
    adapters = [_adapter(each) for each in adapter or ()]
    changes = _given(
        model=model,
        template=template,
        limits=limits or None,
        adapters=adapters if adapters or no_adapters else None,
        hostname=hostname,
    )
    if not changes:
        options = "--model, --template, --adapter, --no-adapters, --hostname, --rpm, --tpm or --at-once"
        raise MillraceError(f"nothing to change: give {options}")
    _ask(
        lambda client: client.endpoints.update(name, changes, if_generation=if_generation, dry_run=dry_run),
        wait=wait,
        output=output,
    )


@app.command()
@one_line_errors
def scale(
    name: Name,
    min_replicas: Annotated[int | None, typer.Option("--min", help="Fewest replicas.")] = None,
    max_replicas: Annotated[int | None, typer.Option("--max", help="Most replicas.")] = None,
    target_concurrency: Annotated[int | None, typer.Option(help="Requests in flight one replica should carry.")] = None,
    idle_to_zero: IdleToZero = None,
    wait: Wait = False,
    dry_run: DryRun = False,
    output: Output = OUTPUT,
) -> None:
    """Change how many replicas may run, and when none does; what is left out stays as it is."""
    scaling = _given(min=min_replicas, max=max_replicas, target_concurrency=target_concurrency)
    scaling |= _sleep(idle_to_zero)
    if not scaling:
        raise MillraceError("nothing to change: give --min, --max, --target-concurrency or --idle-to-zero")
    _ask(lambda client: client.endpoints.scale(name, scaling, dry_run=dry_run), wait=wait, output=output)


@app.command()
@one_line_errors
def pause(
    name: Name, drain: Drain = None, wait: Wait = False, dry_run: DryRun = False, output: Output = OUTPUT
) -> None:
    """Give back what it runs on and keep its name, spec and keys; GPU time ends."""
    _ask(lambda client: client.endpoints.pause(name, drain_deadline_s=drain, dry_run=dry_run), wait=wait, output=output)


@app.command()
@one_line_errors
def drain(
    name: Name,
    deadline: Annotated[int, typer.Option("--deadline", help="Seconds that live streams may still run.")],
    wait: Wait = False,
    dry_run: DryRun = False,
    output: Output = OUTPUT,
) -> None:
    """Take no new requests, let live streams finish until the deadline, then pause."""
    _ask(
        lambda client: client.endpoints.drain(name, drain_deadline_s=deadline, dry_run=dry_run),
        wait=wait,
        output=output,
    )


@app.command()
@one_line_errors
def resume(name: Name, wait: Wait = False, dry_run: DryRun = False, output: Output = OUTPUT) -> None:
    """Bring back what was paused or has failed."""
    _ask(lambda client: client.endpoints.resume(name, dry_run=dry_run), wait=wait, output=output)


@app.command()
@one_line_errors
def delete(
    name: Name, drain: Drain = None, wait: Wait = False, dry_run: DryRun = False, output: Output = OUTPUT
) -> None:
    """Delete an endpoint: route, runtime and capacity are given back in this order."""
    _ask(
        lambda client: client.endpoints.delete(name, drain_deadline_s=drain, dry_run=dry_run), wait=wait, output=output
    )


@app.command()
@one_line_errors
def get(name: Name, output: Output = OUTPUT) -> None:
    """Show one endpoint, with its stages."""
    endpoint = api().endpoints.get(name)
    if output is Output.TABLE:
        console.print(describe(endpoint))
        console.print()
    show(output, endpoint, lambda: stages.picture(endpoint))


@app.command("list")
@one_line_errors
def list_(
    stage: Annotated[str | None, typer.Option(help="Only those in this stage.")] = None,
    tier: Annotated[str | None, typer.Option(help="Only those of this tier.")] = None,
    model: Annotated[str | None, typer.Option(help="Only those of this model.")] = None,
    output: Output = OUTPUT,
) -> None:
    """List the endpoints of the key's project."""
    found = list(api().endpoints.list(stage=stage, tier=tier, model=model))
    show(output, {"items": found}, lambda: listing(found) if found else "no endpoints")


@app.command()
@one_line_errors
def why(name: Name, output: Output = OUTPUT) -> None:
    """Say why it is not ready yet, the likeliest cause first, and what would help."""
    found = api().endpoints.why(name)
    show(output, found, lambda: causes(found, SystemClock().now_ms()))


@app.command()
@one_line_errors
def watch(
    name: Name,
    timeout_s: Annotated[float, typer.Option(help="Seconds to watch at most.")] = WAIT_S,
    output: Output = OUTPUT,
) -> None:
    """Draw the stages as they pass, until the endpoint is at rest; json has its events, one a line, for ever."""
    client = api()
    if output is Output.TABLE:
        stages.watch(client, name, until=stages.AT_REST, timeout_s=timeout_s)
        return
    for each in client.endpoints.watch(name):
        console.out(stages.compact(each), highlight=False)


def _ask(change: Callable[[Millrace], Json], *, wait: bool, output: Output) -> None:
    """Make the change; with ``wait``, see it to its end. Raises MillraceError if that is not success."""
    client = api()
    answer = change(client)
    if "id" not in answer:  # A dry run: a plan, not an operation.
        show(output, answer, lambda: plan(answer))
        return
    if not wait:
        show(
            output, answer, lambda: f"accepted as operation {answer['id']}; `millrace operations watch {answer['id']}`"
        )
        return
    endpoint = stages.see(client, answer["endpoint_id"], answer["id"], timeout_s=WAIT_S, drawn=output is Output.TABLE)
    done = client.operations.get(answer["id"])
    if output is Output.JSON:
        show(output, endpoint, lambda: "")
    if done["status"] != "succeeded":
        raise MillraceError(
            f"{done['verb']} of {endpoint['name']} {done['status'].replace('_', ' ')}: {done['message']}"
        )


def _adapter(text: str) -> Json:
    found = ADAPTER.fullmatch(text)
    if found is None:
        raise MillraceError(f"--adapter {text} is not NAME=OWNER/REPOSITORY:RANK, such as tone=acme/tone-lora:16")
    return {"name": found["name"], "source": found["source"], "rank": int(found["rank"])}


def _sleep(idle_s: int | None) -> Json:
    """What of `scaling` the option means; of nothing, nothing."""
    return {} if idle_s is None else {"idle_to_zero_s": idle_s or None}


def _given(**values: Any) -> Json:  # noqa: ANN401  # Whatever an option holds.
    return {name: value for name, value in values.items() if value is not None}
