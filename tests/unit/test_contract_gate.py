"""The command of `make check`, run on a copy of the tree whose models were edited as people do it."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

ROOT: Final = Path(__file__).parents[2]
RUN_S: Final = 120
# File, the class, what in it becomes what; and the file and complaint that come of it.
EDITS: Final = (
    (
        "route.py", "RoutePublished", r"    url: str\n", "",
        "router/route.published/v1.json", "url is gone",
    ),
    (
        "capacity.py", "GpuReady", r"    gpus: int\n", "    gpus: str\n",
        "capacity-manager/capacity.gpu_ready/v1.json", "gpus has another type: integer, now string",
    ),
    (
        "endpoint.py", "Stage", r"    JOINING_NODES = .*\n", "",
        "endpoint-api/endpoint.stage_changed/v1.json", "stage lost the value joining_nodes",
    ),
    (
        "endpoint.py", "KeyRevoked", r"    key_id: str\n", "    key_id: str\n    reason: str\n",
        "endpoint-api/key.revoked/v1.json", "reason is new and required",
    ),
)  # fmt: skip


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A copy of what the command reads."""
    for each in ("libs", "schemas"):
        shutil.copytree(ROOT / each, tmp_path / each, ignore=shutil.ignore_patterns("__pycache__", "node_modules"))
    return tmp_path


def edit(tree: Path, file: str, name: str, was: str, now: str) -> None:
    path = tree / "libs" / "common" / "events" / file
    text = path.read_text()
    at = text.index(f"class {name}(")
    changed, count = re.subn(was, now, text[at:], count=1)
    assert count == 1, f"{name} has no {was} any more: choose another edit"
    path.write_text(text[:at] + changed)


@pytest.mark.parametrize("flags", [["--check"], []], ids=["check", "write"])
def test_each_incompatible_edit_is_refused_by_event_version_and_field(tree: Path, flags: list[str]) -> None:
    published = {each: each.read_text() for each in (tree / "schemas").rglob("*.json")}
    for file, name, was, now, _, _ in EDITS:
        edit(tree, file, name, was, now)

    said = subprocess.run(
        [sys.executable, "-m", "libs.common.schemas", *flags],
        cwd=tree,
        capture_output=True,
        text=True,
        timeout=RUN_S,
        check=False,
    )

    expected = [
        f"schemas/events/{path} is published and {broken}: make a new version beside it"
        for _, _, _, _, path, broken in EDITS
    ]
    assert said.stderr.splitlines() == sorted(expected)
    assert said.returncode == 1
    assert published == {each: each.read_text() for each in (tree / "schemas").rglob("*.json")}
