"""A PostgreSQL of our own for the tests: made from the OS package in a temporary directory, reached by a socket there.

It ends with the process that started it, however that ends: the server's shell waits for the end of our pipe.
"""

from __future__ import annotations

import itertools
import os
import pwd
import shutil
import subprocess
import tempfile
import time
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final, TypedDict

import psycopg
import pytest

START_S: Final = 30.0
PACKAGES: Final = Path("/usr/lib/postgresql")  # Where Debian keeps what it leaves out of PATH, by version.
NOT_ROOT: Final = ("postgres", "nobody")  # PostgreSQL refuses to run as root; the first of these that exists runs it.
UNTIL_WE_END: Final = '"$@" & server=$!; cat > /dev/null; kill -QUIT $server; wait $server; rm -rf -- "$0"'
ABSENT: Final = (
    "POSTGRESQL IS NOT INSTALLED: everything about the store on PostgreSQL was SKIPPED. "
    "Install the OS package `postgresql`; with CI=true this is a failure."
)
# Sorts words as people do, so that a store which leaves sorting to the locale is caught. Before PostgreSQL 15: none.
HUMAN: Final = ("--locale-provider", "icu", "--icu-locale", "en")
QUICK: Final = {"fsync": "off", "full_page_writes": "off"}  # Tests kill processes, never the power.


class Absent(Exception):
    """The programs of PostgreSQL are not on this machine."""


def program(name: str) -> str:
    """The path of one of PostgreSQL's programs: from PATH, else from the newest OS package. Raises Absent."""
    packaged = sorted(PACKAGES.glob(f"*/bin/{name}"), key=lambda path: float(path.parts[-3]), reverse=True)
    found = shutil.which(name) or next((str(path) for path in packaged), None)
    if found is None:
        raise Absent(name)
    return found


class Postgres:
    """A running server with as many empty databases as one asks for."""

    def __init__(self, settings: Mapping[str, str] = QUICK) -> None:
        self._settings = {"listen_addresses": "", "max_connections": "200", "timezone": "UTC", **settings}
        self._runs_as = _unprivileged()
        self._numbers = itertools.count()
        self._initdb, self._postgres = program("initdb"), program("postgres")
        # Not below pytest's own directory: that is closed to the user who runs the server.
        self.directory = Path(tempfile.mkdtemp(prefix="mr-pg-"))
        if self._runs_as:
            shutil.chown(self.directory, self._runs_as["user"], self._runs_as["group"])
        self._make()
        self._server = self._run()

    def url(self, database: str) -> str:
        """The URL of a database."""
        return f"postgresql+psycopg://millrace@/{database}?host={self.directory}"

    def new(self) -> str:
        """The URL of a new, empty database."""
        name = f"test_{next(self._numbers)}"
        self.execute(f"CREATE DATABASE {name}")
        return self.url(name)

    def execute(self, statement: str) -> list[tuple[object, ...]]:
        """Run a statement as the administrator and give its rows."""
        with psycopg.connect(host=str(self.directory), user="millrace", dbname="postgres", autocommit=True) as admin:
            cursor = admin.execute(statement.encode())
            return cursor.fetchall() if cursor.description else []

    def stop(self) -> None:
        """End the server and leave nothing."""
        self._server.communicate()  # Closes the pipe.
        shutil.rmtree(self.directory, ignore_errors=True)  # Where only we may: the server's user emptied it.

    def _make(self) -> None:
        command = [self._initdb, "--pgdata", str(self.directory / "data"), "--username", "millrace"]
        command += ["--auth", "trust", "--encoding", "UTF8", "--locale", "C.UTF-8", "--no-sync"]
        errors = ""
        for language in (HUMAN, ()):
            made = subprocess.run(
                [*command, *language],
                cwd=self.directory,
                capture_output=True,
                text=True,
                check=False,
                **self._runs_as,
            )
            if made.returncode == 0:
                return
            errors += made.stderr
        raise AssertionError(f"initdb failed: {errors}")

    def _run(self) -> subprocess.Popen[bytes]:
        command = [self._postgres, "-D", str(self.directory / "data"), "-k", str(self.directory)]
        command += [each for name, value in self._settings.items() for each in ("-c", f"{name}={value}")]
        with (self.directory / "log").open("wb") as log:
            server = subprocess.Popen(
                ["/bin/sh", "-c", UNTIL_WE_END, str(self.directory), *command],
                cwd=self.directory,
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                start_new_session=True,  # A Ctrl-C is for pytest; the server ends after the tests have ended.
                **self._runs_as,
            )
        deadline_s = time.monotonic() + START_S
        while True:
            try:
                self.execute("SELECT 1")
            except psycopg.OperationalError:
                assert time.monotonic() < deadline_s, (self.directory / "log").read_text()
                time.sleep(0.05)
            else:
                return server


class _RunsAs(TypedDict, total=False):
    user: int
    group: int
    extra_groups: list[int]


def _unprivileged() -> _RunsAs:
    """Who runs the server: ourselves, unless we are root."""
    if os.geteuid() != 0:
        return {}
    known = {each.pw_name: each for each in pwd.getpwall()}
    chosen = next(known[name] for name in NOT_ROOT if name in known)
    return {"user": chosen.pw_uid, "group": chosen.pw_gid, "extra_groups": []}


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """A server for the session. Without the OS package: a loud skip here, a failure where CI is true."""
    try:
        server = Postgres()
    except Absent:
        if os.environ.get("CI", "").lower() in ("1", "true"):
            pytest.fail(ABSENT)
        warnings.warn(ABSENT, stacklevel=1)
        pytest.skip(ABSENT)
    yield server
    server.stop()
