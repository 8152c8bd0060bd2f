"""`millrace domains`: domains of one's own, below which endpoints may have host names."""

from __future__ import annotations

from typing import Annotated

import typer

from libs.cli.client import Json, api
from libs.cli.output import OUTPUT, Output, card, console, moment, one_line_errors, show, table

app = typer.Typer(no_args_is_help=True, help="Domains of your own, for endpoints with `--hostname`.")

Name = Annotated[str, typer.Argument(help="Such as example.com.")]


@app.command("show")
@one_line_errors
def show_(domain: Name, output: Output = OUTPUT) -> None:
    """Say which DNS record proves that a domain is yours, and whether it was seen."""
    found = api().domains.get(domain)
    rows = [
        ("domain", found["domain"]),
        ("verified", moment(found["verified_at"] or "") or "no; make the record, then `millrace domains verify`"),
        *((("status", standing(found)), ("proof seen", moment(found["proof_seen_at"]))) if found["verified"] else ()),
        ("record", f"{found['record_name']} TXT"),
        ("text", found["record_text"]),
    ]
    show(output, found, lambda: card(rows))


@app.command()
@one_line_errors
def verify(domain: Name, output: Output = OUTPUT) -> None:
    """Have the record looked for, and remember that it was there."""
    found = api().domains.verify(domain)
    show(output, found, lambda: f"{found['domain']} is yours; endpoints may have host names below it")


@app.command("list")
@one_line_errors
def list_(output: Output = OUTPUT) -> None:
    """List the domains that are verified."""
    found = {"items": api().domains.list()}
    rows = [
        (each["domain"], moment(each["verified_at"]), moment(each["proof_seen_at"]), standing(each))
        for each in found["items"]
    ]
    columns = ("domain", "verified", "proof seen", "status")
    show(output, found, lambda: table(columns, rows, whole=columns[:3]) if rows else "no domains")


@app.command()
@one_line_errors
def release(domain: Name) -> None:
    """Give a domain up; not while endpoints have host names below it."""
    api().domains.release(domain)
    console.print(f"{domain} is given up")


def standing(found: Json) -> str:
    """What it says, and until when something may be done about it."""
    match found["status"]:
        case "lapsing":
            return f"lapsing: its record is gone; put it back before {moment(found['lapses_at'])}"
        case "lapsed":
            return "lapsed: its record is gone; whoever proves it has it"
        case other:
            return str(other)
