"""Each layer contract of pyproject.toml catches the import that it forbids, and no other contract has to."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

ROOT: Final = Path(__file__).parents[2]

# Contract, the file that a bad import is planted in, and the import.
PLANTED: Final = (
    ("Services never import one another", "services/metering/shell/settings.py", "services.router.shell.settings"),
    ("libs never import services", "libs/common/clock.py", "services.router"),
    ("In a service: __main__ > service > shell > core", "services/router/core/state.py", "services.router.shell.ports"),
    ("A core is pure: no I/O, no clock, no chance, no logs", "services/metering/core/state.py", "random"),
    (
        "The contract stands on nothing: events import only ids, units, errors",
        "libs/common/events/facts.py",
        "libs.common.clock",
    ),
    ("libs.common knows neither the twin nor the command line", "libs/common/clock.py", "libs.twin"),
    ("Heavy libraries have their rooms: NATS", "services/metering/shell/settings.py", "nats"),
    ("Heavy libraries have their rooms: SQL", "services/metering/shell/settings.py", "sqlalchemy"),
)


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the sources, to plant in."""
    copy = tmp_path_factory.mktemp("house")
    for folder in ("services", "libs"):
        shutil.copytree(ROOT / folder, copy / folder, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", copy)
    return copy


def lint(house: Path) -> subprocess.CompletedProcess[str]:
    command = [str(Path(sys.executable).with_name("lint-imports")), "--no-cache"]
    return subprocess.run(command, cwd=house, capture_output=True, text=True, check=False)


def test_the_house_as_it_is_keeps_every_contract(house: Path) -> None:
    answer = lint(house)

    assert answer.returncode == 0, answer.stdout + answer.stderr


@pytest.mark.parametrize(("contract", "file", "module"), PLANTED, ids=[each[0] for each in PLANTED])
def test_a_planted_bad_import_is_caught_by_its_contract(house: Path, contract: str, file: str, module: str) -> None:
    path = house / file
    clean = path.read_text()
    path.write_text(
        clean.replace(
            "from __future__ import annotations\n", f"from __future__ import annotations\n\nimport {module}\n", 1
        )
    )

    try:
        answer = lint(house)
    finally:
        path.write_text(clean)

    assert answer.returncode == 1
    assert f"{contract} BROKEN" in answer.stdout
