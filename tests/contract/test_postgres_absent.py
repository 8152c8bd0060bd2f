"""A machine without PostgreSQL says so loudly, and CI fails on it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Final

SUITE: Final = "tests/contract/test_store_promises.py::test_an_outbox_read_by_cursor_is_caught"
WITHOUT_PACKAGES: Final = """
import sys
from pathlib import Path
import pytest
from tests.support import postgres
postgres.PACKAGES = Path("/nowhere")
sys.exit(pytest.main(["-q", "-n0", "-p", "no:cacheprovider", "-p", "no:schemathesis", "-rs", sys.argv[1]]))
"""


def run(*, ci: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", WITHOUT_PACKAGES, SUITE],
        cwd=Path(__file__).parents[2],
        env={**os.environ, "PATH": "/nowhere", "CI": ci, "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


def test_without_postgresql_the_suite_skips_and_says_so() -> None:
    ended = run(ci="")

    assert ended.returncode == 0, ended.stdout
    assert "1 skipped" in ended.stdout
    assert "warnings summary" in ended.stdout
    assert ended.stdout.count("POSTGRESQL IS NOT INSTALLED") >= 2


def test_without_postgresql_ci_fails() -> None:
    ended = run(ci="true")

    assert ended.returncode == 1, ended.stdout
    assert "POSTGRESQL IS NOT INSTALLED" in ended.stdout
