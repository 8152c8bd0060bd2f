"""`millrace retell`: after the broker lost its disk, have services tell it again what they told."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Annotated, Final

import typer

from libs.cli.client import Credentials
from libs.cli.output import OUTPUT, Output, one_line_errors, show, table
from libs.cli.profile import Home
from libs.cli.programs import database_of
from libs.common.errors import Invalid, MillraceError
from libs.common.events.event import Owner

PROGRAM: Final = "libs.common.bus.retell"
COLUMNS: Final = ("service", "told again", "known already")
Services = Annotated[list[Owner] | None, typer.Option("--service", help="Only of this service; again for more.")]


@one_line_errors
def retell(
    service: Services = None,
    database: Annotated[str, typer.Option(help="Of one --service: its database; left out: of `millrace up`.")] = "",
    nats: Annotated[str, typer.Option(help="NATS URL; left out: of `millrace up`.")] = "",
    output: Output = OUTPUT,
) -> None:
    """Tell the bus again what services told: after it lost its store. For operators; safe to repeat, while all run.

    Events of the last days go out under the ids that they had, so whoever took one takes it no second time; a key of a
    bucket is set only where there is none. Routers send what was not confirmed of their usage by themselves.
    """
    if database and len(service or ()) != 1:
        raise Invalid("--database is of one service: name it with --service")
    home = Home.default()
    url = nats or Credentials.read(home).nats_url
    answer = [
        {"service": each.value, **_told_again(database or database_of(home, each), url)} for each in service or Owner
    ]
    show(output, answer, lambda: table(COLUMNS, [tuple(each.values()) for each in answer]))


def _told_again(database: str, url: str) -> dict[str, int]:
    """In a process of its own: NATS and SQL take long to load, and no other verb needs them."""
    env = {**os.environ, "MILLRACE_DATABASE_URL": database, "MILLRACE_NATS_URL": url}
    ended = subprocess.run([sys.executable, "-m", PROGRAM], env=env, capture_output=True, text=True, check=False)
    if ended.returncode:
        raise MillraceError((ended.stderr.strip().splitlines() or ["it ended without a word"])[-1])
    found: dict[str, int] = json.loads(ended.stdout)
    return found
