"""Each layer contract of pyproject.toml catches the import that it forbids, whatever else is wrong."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tomllib
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


@pytest.fixture
def house(tmp_path: Path) -> Path:
    """A copy of the sources, to plant in."""
    for folder in ("services", "libs"):
        shutil.copytree(ROOT / folder, tmp_path / folder, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    return tmp_path


def lint(house: Path) -> subprocess.CompletedProcess[str]:
    command = [str(Path(sys.executable).with_name("lint-imports")), "--no-cache"]
    return subprocess.run(command, cwd=house, capture_output=True, text=True, check=False)


def complaints(text: str, contract: str) -> str:
    """What is said of a broken contract: from its underlined name to the next one."""
    _, found, after = text.partition(f"\n{contract}\n{'-' * len(contract)}\n")
    assert found, f"{contract} is not broken"
    return re.split(r"\n-{5,}\n", after)[0]


def test_the_house_as_it_is_keeps_every_contract() -> None:
    answer = lint(ROOT)

    assert answer.returncode == 0, answer.stdout + answer.stderr


def test_each_planted_bad_import_is_caught_by_its_contract(house: Path) -> None:
    for _, file, module in PLANTED:  # All at once: each look at the house costs half a second.
        path = house / file
        start = "from __future__ import annotations\n"
        path.write_text(path.read_text().replace(start, f"{start}\nimport {module}\n", 1))

    answer = lint(house)

    assert answer.returncode == 1
    for contract, file, module in PLANTED:
        importer = file.removesuffix(".py").replace("/", ".")
        assert f"{importer} -> {module} (l." in complaints(answer.stdout, contract), contract


def test_every_contract_has_an_import_planted_against_it() -> None:
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]

    assert {each["name"] for each in contracts} == {contract for contract, _, _ in PLANTED}
