"""`millrace domains`: domains of one's own, below which endpoints may have host names."""

from __future__ import annotations

from typing import Annotated

import typer

from libs.cli.client import api
from libs.cli.output import OUTPUT, Output, card, console, one_line_errors, show, table

app = typer.Typer(no_args_is_help=True, help="Domains of your own, for endpoints with `--hostname`.")

Name = Annotated[str, typer.Argument(help="Such as example.com.")]


@app.command("show")
@one_line_errors
def show_(domain: Name, output: Output = OUTPUT) -> None:
    """Say which DNS record proves that a domain is yours, and whether it was seen."""
    found = api().domains.get(domain)
    rows = [
        ("domain", found["domain"]),
        ("verified", found["verified_at"] or "no; make the record, then `millrace domains verify`"),
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
    rows = [(each["domain"], each["verified_at"]) for each in found["items"]]
    show(output, found, lambda: table(("domain", "verified"), rows, whole=("domain",)) if rows else "no domains")


@app.command()
@one_line_errors
def release(domain: Name) -> None:
    """Give a domain up; not while endpoints have host names below it."""
    api().domains.release(domain)
    console.print(f"{domain} is given up")
