"""`millrace projects`: the parts of a tenant, each with endpoints, keys and members of its own."""

from __future__ import annotations

from typing import Annotated

import typer

from libs.cli.client import Json, api
from libs.cli.output import OUTPUT, Output, card, moment, one_line_errors, show, table
from libs.cli.quotas import AtOnce, Budget, Endpoints, Gpus, Replicas, Rpm, Spend, Tpm, quota_of, quota_text
from libs.common.errors import MillraceError

app = typer.Typer(no_args_is_help=True, help="Projects of a tenant; operators name it: millrace --project <tenant> …")
Id = Annotated[str, typer.Argument(help="Id of the project.")]


@app.command()
@one_line_errors
def create(
    project_id: Annotated[str, typer.Argument(help="1 to 40 of a-z, 0-9 and '-'.")],
    endpoints: Endpoints = None,
    replicas: Replicas = None,
    gpus: Gpus = None,
    rpm: Rpm = None,
    tpm: Tpm = None,
    at_once: AtOnce = None,
    budget: Budget = None,
    spend: Spend = None,
    output: Output = OUTPUT,
) -> None:
    """Make a project."""
    quota = quota_of(
        {},
        endpoints=endpoints,
        replicas=replicas,
        gpus=gpus or (),
        rpm=rpm,
        tpm=tpm,
        at_once=at_once,
        budget=budget,
        spend=spend,
    )
    made = api().projects.create(project_id, quota=quota)
    show(output, made, lambda: card(_lines(made)))


@app.command("list")
@one_line_errors
def list_(output: Output = OUTPUT) -> None:
    """List the projects that you have a role in."""
    found = api().projects.list()
    rows = [(each["id"], moment(each["created_at"]), quota_text(each["quota"])) for each in found]
    columns = ("project", "created", "quota")
    show(output, {"items": found}, lambda: table(columns, rows, whole=columns[:2]) if rows else "no projects")


@app.command("set-quota")
@one_line_errors
def set_quota(
    project_id: Id,
    endpoints: Endpoints = None,
    replicas: Replicas = None,
    gpus: Gpus = None,
    rpm: Rpm = None,
    tpm: Tpm = None,
    at_once: AtOnce = None,
    budget: Budget = None,
    spend: Spend = None,
    output: Output = OUTPUT,
) -> None:
    """Change its limits, never above the tenant's; those left out stay."""
    projects = api().projects
    was = next((each["quota"] for each in projects.list() if each["id"] == project_id), None)
    if was is None:
        raise MillraceError(f"there is no project {project_id} here; `millrace projects list` shows which there are")
    quota = quota_of(
        was,
        endpoints=endpoints,
        replicas=replicas,
        gpus=gpus or (),
        rpm=rpm,
        tpm=tpm,
        at_once=at_once,
        budget=budget,
        spend=spend,
    )
    changed = projects.change(project_id, quota=quota)
    show(output, changed, lambda: card(_lines(changed)))


@app.command()
@one_line_errors
def remove(project_id: Id, output: Output = OUTPUT) -> None:
    """Take away a project that has no endpoints; its keys are refused from then on."""
    api().projects.remove(project_id)
    show(output, {}, lambda: f"{project_id} is removed")


def _lines(project: Json) -> list[tuple[str, object]]:
    return [
        ("project", project["id"]),
        ("created", moment(project["created_at"])),
        ("quota", quota_text(project["quota"])),
    ]
