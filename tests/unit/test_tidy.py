"""The style guide, as far as a machine can read it. Each rule is a function of text, so that each is shown to catch."""

from __future__ import annotations

import ast
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

ROOT: Final = Path(__file__).parents[2]
SOURCES: Final = sorted(path for top in ("services", "libs", "tests") for path in (ROOT / top).rglob("*.py"))
SERVICES: Final = ("autoscaler", "capacity_manager", "endpoint_api", "metering", "router", "runtime_deployer")
SHAPE: Final = ("README.md", "__init__.py", "__main__.py", "service.py", "core/state.py", "core/decide.py")
SHELL_SHAPE: Final = ("shell/settings.py", "shell/ports.py", "shell/metrics.py")

# These import where they need it: every command of the CLI would wait most of a second for what few of them use.
LATE: Final = frozenset({"libs/common/bus/tail.py", "libs/cli/audit.py", "libs/cli/starting.py"})
MODULE_LINES_MAX: Final = 300
FUNCTION_LINES_MAX: Final = 50
VAGUE: Final = frozenset({"utils", "util", "helpers", "helper", "misc", "base", "core", "types", "common"})


def tidiness(name: str, text: str, *, is_test: bool = False, may_be_late: bool = False) -> Iterator[str]:
    """What is untidy in a module; nothing if it is fine."""
    if len(text.splitlines()) > MODULE_LINES_MAX and not is_test:
        yield f"{len(text.splitlines())} lines: give a part of it its own name"
    if name in VAGUE:
        yield f"{name} says nothing: name it after its idea"
    tree = ast.parse(text)
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            length = (node.end_lineno or node.lineno) - node.lineno + 1
            if length > FUNCTION_LINES_MAX:
                yield f"{node.name} has {length} lines"
            if not may_be_late and any(isinstance(each, ast.Import | ast.ImportFrom) for each in ast.walk(node)):
                yield f"{node.name} imports inside itself"
        if isinstance(node, ast.ExceptHandler) and node.type is None:
            yield f"line {node.lineno} catches everything"


def broad_excepts(text: str) -> int:
    """How many handlers catch `Exception`."""
    return sum(
        isinstance(node, ast.ExceptHandler) and isinstance(node.type, ast.Name) and node.type.id == "Exception"
        for node in ast.walk(ast.parse(text))
    )


def test_every_module_fits_in_the_head() -> None:
    found = {}
    for path in SOURCES:  # One test, not one a module: a thousand cost more than what they look at.
        place = str(path.relative_to(ROOT))
        is_test = place.startswith("tests/")
        found[place] = list(tidiness(path.stem, path.read_text(), is_test=is_test, may_be_late=place in LATE))

    assert {place: untidy for place, untidy in found.items() if untidy} == {}


def test_an_untidy_module_is_caught() -> None:
    long = "def f() -> None:\n" + "    x = 1\n" * 60
    late = "def f() -> None:\n    import os\n"
    bare = "try:\n    pass\nexcept:\n    pass\n"

    assert any("61 lines" in each for each in tidiness("route", long))
    assert any("imports inside" in each for each in tidiness("route", late))
    assert any("catches everything" in each for each in tidiness("route", bare))
    assert any("says nothing" in each for each in tidiness("helpers", "x = 1\n"))
    assert any("301 lines" in each for each in tidiness("route", "x = 1\n" * 301))


@pytest.mark.parametrize("service", SERVICES)
def test_every_service_has_the_same_shape(service: str) -> None:
    missing = [each for each in (*SHAPE, *SHELL_SHAPE) if not (ROOT / "services" / service / each).is_file()]

    assert missing == []


@pytest.mark.parametrize("service", SERVICES)
def test_a_core_never_swallows_an_exception(service: str) -> None:
    found = {path.name: broad_excepts(path.read_text()) for path in (ROOT / "services" / service / "core").glob("*.py")}

    assert {name for name, count in found.items() if count} == set()


def test_no_tracked_file_names_a_registry_or_a_path_of_this_machine() -> None:
    # Spelled in halves, so that this file does not name them either.
    banned = ("files.python" + "hosted", "registry.npm" + "js", "proxy.golang" + ".org", "/" + "work/", "/" + "root/")
    names = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split()

    found = [
        (name, each)
        for name in names
        if (ROOT / name).is_file()
        for each in banned
        if each in (ROOT / name).read_text(errors="replace")
    ]

    assert found == []
