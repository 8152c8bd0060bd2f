"""``python -m services.capacity_manager snapshots|restore``: what `millrace snapshots` runs.

A restore is done by the vendor's own program, for the Platform documents no call for it. It says what it would
overwrite, and does nothing, unless it is told to. One JSON object on standard output.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

from libs.common.errors import NotFound, Rejected
from libs.common.runner import Runner
from services.capacity_manager.core.snapshots import restore_of
from services.capacity_manager.core.state import Claim
from services.capacity_manager.shell.platform.snapshotting import Snapshots

VERBS: Final = ("snapshots", "restore")
RESTORE_S_MAX: Final = 1800.0  # A control plane is stopped, its state fetched, and started again.


def run_program(command: Sequence[str]) -> str:
    """Run the vendor's program; what it said. Raises Rejected if it is not there, or failed."""
    program = shutil.which(command[0])
    if program is None:
        raise Rejected(f"the program {command[0]} is not installed here; run this where it is: {' '.join(command)}")
    words = [program, *command[1:]]  # No shell reads them.
    ended = subprocess.run(words, capture_output=True, text=True, check=False, timeout=RESTORE_S_MAX)  # noqa: S603
    if ended.returncode:
        last = (ended.stderr.strip().splitlines() or ["it ended without a word"])[-1]
        raise Rejected(f"{' '.join(command)}: {last}")
    return ended.stdout.strip()


@dataclass(frozen=True, slots=True)
class RestoreDesk:
    """What an operator works on: the records, the Platform, and the vendor's program."""

    claims: Runner[Claim]
    platform: Snapshots
    run: Callable[[Sequence[str]], str] = run_program


def operate(argv: Sequence[str], desk: RestoreDesk) -> int:
    """Print the snapshots, or what a restore would do or did. Raises MillraceError for what can't be done."""
    asked = _parser().parse_args(argv)
    claim = desk.claims.state(asked.endpoint)
    if claim is None or claim.is_released:
        raise NotFound(f"no endpoint {asked.endpoint} has a cluster; see `millrace capacity`")
    if asked.verb == "snapshots":
        found: dict[str, Any] = {"snapshots": [asdict(each) for each in desk.platform.taken(claim)]}
    else:
        found = _restore(desk, claim, asked.snapshot, is_dry=not asked.yes)
    sys.stdout.write(json.dumps(found, indent=2) + "\n")
    return 0


def _restore(desk: RestoreDesk, claim: Claim, snapshot_id: str, *, is_dry: bool) -> dict[str, Any]:
    cluster = desk.platform.cluster(claim)
    standing, taken = desk.platform.standing(claim), desk.platform.taken(claim)
    way = restore_of(claim, cluster, standing, taken, snapshot_id)
    said = "" if is_dry else desk.run(way.command)
    return {**asdict(way), "dry_run": is_dry, "said": said}


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="capacity-manager", description=__doc__)
    verbs = parser.add_subparsers(dest="verb", required=True)
    listing, restoring = (verbs.add_parser(each) for each in VERBS)
    for each in (listing, restoring):
        each.add_argument("endpoint")
    restoring.add_argument("snapshot")
    restoring.add_argument("--yes", action="store_true")
    return parser
