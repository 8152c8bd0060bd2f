"""The signed-file export: numbered tables in a directory, each with a manifest, each manifest signed and chained.

The manifest appears last and by one rename: a table without one was never written. One process writes a directory.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

from libs.common.clock import Clock
from libs.common.errors import Rejected
from libs.common.signing import Checker, Signer
from libs.common.units import HOUR_MS
from services.metering.core.exports import table
from services.metering.core.exports.state import Intent
from services.metering.shell.exporters.reply import End, Result

FIRST: Final = "0" * 64  # What the first manifest names as the one before it.
SLACK_MS: Final = 1 * HOUR_MS  # How far a clock may have stepped back between an intent and its file.
MANIFEST: Final = ".manifest.json"
PARQUET: Final = ".parquet"


class Tampered(Rejected):
    """A file, a row or a signature is not what was written."""

    code = "tampered"


class SignedFiles:
    """A directory as a receiver."""

    def __init__(self, directory: Path, signer: Signer, clock: Clock, *, parquet: bool = False) -> None:
        """``parquet``: each table also as Parquet, beside its CSV and in its manifest."""
        self._directory = directory
        self._signer = signer
        self._clock = clock
        self._parquet = parquet

    def send(self, intents: Sequence[Intent]) -> Sequence[Result]:
        """Write what is not there yet as one more file."""
        try:
            there = self._ids_since(min(each.made_ms for each in intents) - SLACK_MS)
            news = [each for each in intents if each.id not in there]
            name = self._write(news) if news else ""
        except (OSError, ValueError) as trouble:
            return [Result(each, End.UNSURE, type(trouble).__name__) for each in intents]
        return [Result(each, End.ACCEPTED, there.get(each.id, name)) for each in intents]

    def shown(self, intent: Intent) -> object:
        """The row."""
        return next(iter(_rows(table.table_of([intent]))))

    def _write(self, intents: Sequence[Intent]) -> str:
        self._directory.mkdir(parents=True, exist_ok=True)
        last = max(_manifests(self._directory), default=None)
        number = 1 if last is None else int(last.name.split(".")[0]) + 1
        previous = FIRST if last is None else hashlib.sha256(last.read_bytes()).hexdigest()
        name = f"{number:09d}.csv"
        content = table.table_of(intents)
        parquet = table.parquet_table_of(intents) if self._parquet else b""
        manifest = table.manifest_of(
            number=number, name=name, table=content, intents=intents, previous=previous, parquet=parquet,
            now_ms=self._clock.now_ms(),
        )  # fmt: skip
        _store(self._directory / name, content)
        if parquet:
            _store(self._directory / f"{number:09d}{PARQUET}", parquet)
        _store(self._directory / f"{number:09d}.sig", self._signer.sign(manifest))
        _store(self._directory / f"{number:09d}{MANIFEST}", manifest)
        return name

    def _ids_since(self, since_ms: int) -> dict[str, str]:
        """Rows written since a time, with their file: what a crash made us forget can only be among them."""
        found: dict[str, str] = {}
        for path in sorted(_manifests(self._directory), reverse=True):
            manifest = json.loads(path.read_bytes())
            if manifest["written_ms"] < since_ms:
                break
            for row in _rows((self._directory / manifest["file"]).read_bytes()):
                found[row["id"]] = manifest["file"]
        return found


def verified(directory: Path, checker: Checker) -> Iterator[dict[str, str]]:
    """All rows, in order, each file checked before its first row. Raises Tampered for anything that was changed."""
    previous = FIRST
    for number, path in enumerate(sorted(_manifests(directory)), start=1):
        content = path.read_bytes()
        if not checker.is_good(content, (directory / f"{number:09d}.sig").read_bytes()):
            raise Tampered(f"{path.name} has another signature")
        manifest: dict[str, Any] = json.loads(content)
        rows = (directory / manifest["file"]).read_bytes()
        _check_parquet(directory / f"{number:09d}{PARQUET}", manifest.get("parquet_sha256"))
        if manifest["previous_sha256"] != previous or manifest["number"] != number:
            raise Tampered(f"{path.name} does not follow the one before it")
        if hashlib.sha256(rows).hexdigest() != manifest["sha256"]:
            raise Tampered(f"{manifest['file']} was changed")
        previous = hashlib.sha256(content).hexdigest()
        yield from _rows(rows)


def _check_parquet(path: Path, sha256: str | None) -> None:
    if sha256 is not None and hashlib.sha256(path.read_bytes()).hexdigest() != sha256:
        raise Tampered(f"{path.name} was changed")


def _manifests(directory: Path) -> list[Path]:
    return list(directory.glob(f"*{MANIFEST}"))


def _rows(content: bytes) -> Iterator[dict[str, str]]:
    return iter(csv.DictReader(io.StringIO(content.decode(), newline="")))


def _store(path: Path, content: bytes) -> None:
    waiting = path.with_name(f"{path.name}.part")
    with waiting.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    waiting.rename(path)
    directory = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)
