"""The manifest of a model: its files, each with size and sha256. Its own sha256 is what a model is pinned to."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

from libs.common.errors import Invalid

FILES_MAX: Final = 400  # The largest models are split into some two hundred.
BYTES_MAX: Final = 96 * 1024  # It rides in the pod as one variable, and Linux takes at most 128 KiB of one.
SHA256: Final = re.compile(r"[0-9a-f]{64}")
PATH: Final = re.compile(r"[A-Za-z0-9_.+-]+(/[A-Za-z0-9_.+-]+)*")
PATH_CHARS_MAX: Final = 200
SHORT_CHARS: Final = 16


@dataclass(frozen=True, slots=True)
class File:
    """One file of a model."""

    path: str
    size_bytes: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Manifest:
    """All files of a model, by path. The same files in any order have the same text, and so the same digest."""

    files: tuple[File, ...]

    @property
    def size_bytes(self) -> int:
        """What all files take."""
        return sum(each.size_bytes for each in self.files)

    @property
    def text(self) -> str:
        """One line a file, `<sha256> <bytes> <path>`, by path."""
        by_path = sorted(self.files, key=lambda each: each.path)
        return "".join(f"{each.sha256} {each.size_bytes} {each.path}\n" for each in by_path)

    @property
    def digest(self) -> str:
        """What pins the model: `sha256:` and the sha256 of the text."""
        return f"sha256:{hashlib.sha256(self.text.encode()).hexdigest()}"


def parse(text: str) -> Manifest:
    """The manifest that a text is. Raises Invalid naming the line and the field."""
    files = tuple(_file(number, line) for number, line in enumerate(text.splitlines(), start=1))
    wrong = "; ".join(f"{field}: {what}" for field, what in problems(files))
    if wrong:
        raise Invalid(f"manifest: {wrong}", code="manifest_invalid")
    return Manifest(files)


def problems(files: Iterable[File]) -> Iterator[tuple[str, str]]:
    """What is wrong with the files of a manifest, as pairs of a field and what to do; nothing if they are fine."""
    files = tuple(files)
    if not files:
        yield "files", "there are none: name every file of the model"
    if len(files) > FILES_MAX:
        yield "files", f"are {len(files)}; a model has at most {FILES_MAX}"
    seen: set[str] = set()
    for place, each in enumerate(files):
        yield from _file_problems(f"files.{place}", each)
        if each.path in seen:
            yield f"files.{place}.path", f"{each.path} is there twice"
        seen.add(each.path)
    for place, each in enumerate(files):
        if any(other.startswith(f"{each.path}/") for other in seen):
            yield f"files.{place}.path", f"{each.path} is a file and a directory of others"
    if len(Manifest(files).text.encode()) > BYTES_MAX:
        yield "files", f"take more than {BYTES_MAX} bytes to write down: merge small files"


def short(sha256: str) -> str:
    """The beginning of a digest: enough to tell two apart by eye, and to search for."""
    return f"sha256:{sha256[:SHORT_CHARS]}…"


def _file_problems(field: str, file: File) -> Iterator[tuple[str, str]]:
    if SHA256.fullmatch(file.sha256) is None:
        yield f"{field}.sha256", f"{file.sha256[:80]!r} is no sha256: 64 of 0-9 and a-f"
    if file.size_bytes < 0:
        yield f"{field}.size_bytes", f"{file.size_bytes} is less than nothing"
    steps = file.path.split("/")
    is_safe = PATH.fullmatch(file.path) is not None and not {".", ".."} & set(steps)
    if not is_safe or len(file.path) > PATH_CHARS_MAX:
        yield f"{field}.path", f"{file.path[:80]!r} is no path inside the model: letters, digits, . _ + - and / between"


def _file(number: int, line: str) -> File:
    parts = line.split(" ")
    if len(parts) != 3 or not parts[1].isdecimal():
        raise Invalid(f"manifest: line {number} is not `<sha256> <bytes> <path>`", code="manifest_invalid")
    return File(path=parts[2], size_bytes=int(parts[1]), sha256=parts[0])
