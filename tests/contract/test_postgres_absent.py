"""A machine without PostgreSQL says so loudly, and CI fails on it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pytest

SUITE: Final = "tests/contract/test_store_promises.py::test_an_outbox_read_by_cursor_is_caught"
SIGN: Final = "ended with"
WITHOUT_PACKAGES: Final = """
import os, sys
from pathlib import Path
import pytest
from tests.support import postgres
postgres.PACKAGES = Path("/nowhere")
suite, sign, *machines = sys.argv[1:]
for os.environ["CI"] in machines:
    code = pytest.main(["-q", "-n0", "-p", "no:cacheprovider", "-p", "no:schemathesis", "-rs", suite])
    print(sign, int(code), flush=True)
"""

pytestmark = pytest.mark.xdist_group("postgres-absent")  # One process runs both.


@dataclass(frozen=True, slots=True)
class Ran:
    """A run of pytest: how it ended and what it printed."""

    code: int
    said: str


@pytest.fixture(scope="module")
def ran() -> dict[str, Ran]:
    """The suite on a machine without PostgreSQL, by what CI is there."""
    machines = ("", "true")
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_PACKAGES, SUITE, SIGN, *machines],
        cwd=Path(__file__).parents[2],
        env={**os.environ, "PATH": "/nowhere", "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        check=True,
        timeout=240,
    )
    said, codes = re.split(rf"^{SIGN} \d+$", done.stdout, flags=re.M), re.findall(rf"^{SIGN} (\d+)$", done.stdout, re.M)
    return {ci: Ran(int(code), text) for ci, code, text in zip(machines, codes, said, strict=False)}


def test_without_postgresql_the_suite_skips_and_says_so(ran: dict[str, Ran]) -> None:
    ended = ran[""]

    assert ended.code == 0, ended.said
    assert "1 skipped" in ended.said
    assert "warnings summary" in ended.said
    assert ended.said.count("POSTGRESQL IS NOT INSTALLED") >= 2


def test_without_postgresql_ci_fails(ran: dict[str, Ran]) -> None:
    ended = ran["true"]

    assert ended.code == 1, ended.said
    assert "POSTGRESQL IS NOT INSTALLED" in ended.said
