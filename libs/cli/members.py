"""`millrace members`: who may do what, people and service accounts."""

from __future__ import annotations

from typing import Annotated

import typer

from libs.cli.client import Json, api
from libs.cli.output import OUTPUT, Output, card, moment, one_line_errors, show, table
from libs.client import Millrace
from libs.common.errors import MillraceError

app = typer.Typer(no_args_is_help=True, help="Members: people and service accounts with a role.")
Role = Annotated[str, typer.Option("--role", help="owner, developer, viewer or billing.")]
Where = Annotated[str, typer.Option("--in", help="Only in this project; left out: in the whole tenant.")]
Who = Annotated[str, typer.Argument(help="Id of the member, or its subject where that is only one.")]


@app.command()
@one_line_errors
def add(
    subject: Annotated[str, typer.Argument(help="E-mail address or <issuer>:<subject>; a service account's name.")],
    role: Role,
    where: Where = "",
    service_account: Annotated[
        bool, typer.Option("--service-account", help="A program, with keys of its own.")
    ] = False,
    output: Output = OUTPUT,
) -> None:
    """Give somebody a role."""
    kind = "service_account" if service_account else "person"
    made = api().members.put(subject, role, kind=kind, project_id=where)
    show(output, made, lambda: card(_lines(made)))


@app.command("list")
@one_line_errors
def list_(output: Output = OUTPUT) -> None:
    """List the members that you may manage."""
    found = api().members.list()
    rows = [tuple(value for _, value in _lines(each, brief=True)) for each in found]
    columns = ("member", "who", "kind", "role", "in", "since")
    show(output, {"items": found}, lambda: table(columns, rows, whole=columns[2:]) if rows else "no members")


@app.command()
@one_line_errors
def role(
    member: Who,
    role: Annotated[str, typer.Argument(help="owner, developer, viewer or billing.")],
    output: Output = OUTPUT,
) -> None:
    """Give a member another role, in the same place."""
    client = api()
    was = _found(client, member)
    changed = client.members.put(was["subject"], role, kind=was["kind"], project_id=was["project_id"])
    show(output, changed, lambda: card(_lines(changed)))


@app.command()
@one_line_errors
def remove(member: Who, output: Output = OUTPUT) -> None:
    """Take a member's role away; a service account's keys are revoked with it."""
    client = api()
    was = _found(client, member)
    client.members.remove(was["id"])
    show(output, {}, lambda: f"{was['subject']} is no {was['role']} any more")


@app.command("create-key")
@one_line_errors
def create_key(
    member: Who,
    name: Annotated[str, typer.Argument(help="For people to tell keys apart.")],
    expires_in: Annotated[int | None, typer.Option(help="Seconds until it is refused; left out: never.")] = None,
    output: Output = OUTPUT,
) -> None:
    """Make a key of a service account; it may what the account's role says. It is shown this once."""
    client = api()
    made = client.members.create_key(_found(client, member)["id"], name, expires_in_s=expires_in)
    show(output, made, lambda: f"{made['key']}\n[dim]id {made['id']}; shown this once, keep it now[/]")


def _found(client: Millrace, member: str) -> Json:
    """The one member of this id or subject."""
    found = [each for each in client.members.list() if member in (each["id"], each["subject"])]
    if not found:
        raise MillraceError(f"{member} is no member here; `millrace members list` shows who is")
    if len(found) > 1:
        places = ", ".join(f"{each['id']} ({_place(each)})" for each in found)
        raise MillraceError(f"{member} has several roles: say by its id which one: {places}")
    return found[0]


def _lines(member: Json, *, brief: bool = False) -> list[tuple[str, object]]:
    since = moment(member["since"])
    return [
        ("member", member["id"]),
        ("who", member["subject"]),
        ("kind", member["kind"].replace("_", " ")),
        ("role", member["role"]),
        ("in", _place(member)),
        ("since", since.partition(" ")[0] if brief else since),
    ]


def _place(member: Json) -> str:
    return str(member["project_id"] or "all projects")
