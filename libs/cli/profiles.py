"""`millrace profiles`: several installations, or several keys, by name."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from libs.cli.credentials import Credentials, save, saved
from libs.cli.output import OUTPUT, Output, one_line_errors, show, table
from libs.common.errors import MillraceError

app = typer.Typer(no_args_is_help=True, help="Saved credentials, used with --profile or MILLRACE_PROFILE.")
Name = Annotated[str, typer.Argument(help="Name of the profile.")]


@app.command()
@one_line_errors
def add(
    name: Name,
    api_url: Annotated[str, typer.Option(help="Base URL of the endpoint API.")],
    router_url: Annotated[str, typer.Option(help="Base URL of the model traffic.")] = "",
    usage_url: Annotated[str, typer.Option(help="Base URL of the usage API.")] = "",
    nats_url: Annotated[str, typer.Option(help="NATS URL, for operators.")] = "",
    project: Annotated[str, typer.Option(help="<tenant>/<project>, for a member of several.")] = "",
) -> None:
    """Save credentials; the key is read from standard input, so that no shell history has it."""
    if sys.stdin.isatty():
        sys.stderr.write("key: ")
    key = sys.stdin.readline().strip()
    if not key:
        raise MillraceError("no key on standard input: give it as `millrace profiles add … < file-with-the-key`")
    save({**saved(), name: Credentials(api_url, router_url, usage_url, nats_url, key, project)})


@app.command("list")
@one_line_errors
def list_(output: Output = OUTPUT) -> None:
    """List the profiles, without their keys."""
    found = [{"name": name, "api_url": each.api_url, "project": each.project} for name, each in saved().items()]
    rows = [tuple(each.values()) for each in found]
    show(output, {"items": found}, lambda: table(("name", "api", "project"), rows) if rows else "no profiles")


@app.command()
@one_line_errors
def remove(name: Name) -> None:
    """Forget a profile."""
    profiles = saved()
    if profiles.pop(name, None) is None:
        raise MillraceError(f"there is no profile {name}")
    save(profiles)
