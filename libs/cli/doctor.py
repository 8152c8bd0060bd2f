"""`millrace doctor`: is the vCluster Platform underneath fit for us, and what does each missing thing turn off?"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Annotated, Any, Final

import typer
from rich.table import Table

from libs.cli.output import EXIT_FAILED, OUTPUT, Output, one_line_errors, show, table
from libs.cli.profile import CATALOGUE, Home, written
from libs.common.errors import Invalid, MillraceError

PROGRAM: Final = ("-m", "services.capacity_manager.shell.doctor")
EXAMINE_S_MAX: Final = 120.0  # A dozen requests, each with its own limit of seconds.
USAGE: Final = 2
MARKS: Final = {"fine": "ok", "lacking": "lacks", "broken": "BROKEN"}

Url = Annotated[str, typer.Option("--platform-url", envvar="MILLRACE_PLATFORM_URL", help="Its base URL.")]
KeyFile = Annotated[
    Path | None, typer.Option("--key-file", envvar="MILLRACE_PLATFORM_KEY_FILE", help="File with our access key.")
]
CaFile = Annotated[
    Path | None, typer.Option("--ca-file", envvar="MILLRACE_PLATFORM_CA_FILE", help="Its certificate authority.")
]
Catalogue = Annotated[
    Path, typer.Option("--catalogue", envvar="MILLRACE_CATALOGUE_DIR", help="Directory with tiers.yaml.")
]


@one_line_errors
def doctor(
    url: Url = "",
    key_file: KeyFile = None,
    ca_file: CaFile = None,
    catalogue: Catalogue = CATALOGUE,
    output: Output = OUTPUT,
) -> None:
    """Examine the Platform: access, version, licence, rights, free capacity, tiers. Exit code 1 if anything is broken.

    Without --platform-url it is the simulated one of the local profile.
    """
    found = _examined(_environment(url, key_file, ca_file, catalogue))
    show(output, found, lambda: _table(found["findings"]))
    broken = sum(each["health"] == "broken" for each in found["findings"])
    lacking = sum(each["health"] == "lacking" for each in found["findings"])
    if output is Output.TABLE:
        verdict = "healthy" if found["healthy"] else "not fit to serve endpoints"
        sys.stdout.write(f"\n{verdict}: {broken} broken, {lacking} lacking\n")
    if not found["healthy"]:
        raise typer.Exit(EXIT_FAILED)


def _environment(url: str, key_file: Path | None, ca_file: Path | None, catalogue: Path) -> dict[str, str]:
    home = Home.default()
    if not url:
        url, key_file = written(home.credentials).get("twin_url", ""), home.twin_key
        if not url:
            raise Invalid(
                "no Platform named: give --platform-url and --key-file, or start the local profile with `millrace up`"
            )
    if key_file is None:
        raise Invalid("no access key: give --key-file")
    told = {"PLATFORM_URL": url, "PLATFORM_KEY_FILE": str(key_file), "CATALOGUE_DIR": str(catalogue)}
    if ca_file is not None:
        told["PLATFORM_CA_FILE"] = str(ca_file)
    return {**os.environ, **{f"MILLRACE_{name}": value for name, value in told.items()}}


def _examined(environment: dict[str, str]) -> dict[str, Any]:
    """What the service's own eyes see: the same adapter, key and judgement that it works with."""
    ended = subprocess.run(
        [sys.executable, *PROGRAM], env=environment, capture_output=True, text=True, check=False, timeout=EXAMINE_S_MAX
    )
    if ended.returncode == USAGE:
        raise Invalid(ended.stderr.strip().removeprefix("doctor: "))
    try:
        found: dict[str, Any] = json.loads(ended.stdout)
    except ValueError:
        last = ended.stderr.strip().splitlines()[-1:] or ["nothing"]
        raise MillraceError(f"the examination ended with code {ended.returncode} and said {last[0]}") from None
    return found


def _table(findings: list[dict[str, Any]]) -> Table:
    rows, area = [], ""
    for each in findings:
        rows.append(
            (
                each["area"] if each["area"] != area else "",
                each["name"],
                MARKS[each["health"]],
                each["said"],
                each["means"],
            )
        )
        area = each["area"]
    return table(("", "what", "", "found", "which means"), rows, whole=("what",))
