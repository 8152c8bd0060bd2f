"""A hub of models, as Hugging Face's answers: real bytes over HTTP, at the speed of a network, for fetches to bring.

It has one revision of one model: the text that the model server learns from, and weights that nobody reads, computed so
that they need no disk; a model of that size is what shows a download.
"""

from __future__ import annotations

import asyncio
import hashlib
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from libs.twin.answers import Response
from libs.twin.model.ngram import CORPUS

PREFIX: Final = "/hub/"
REPOSITORY: Final = "millrace/ngram-1@r1"
SIZE_BYTES: Final = 64 << 20  # Of the model, as the catalogue sells it.
SPEED_BYTES_PER_S: Final = 24 << 20  # Of the whole hub; not scaled: the fetch lives in real time.
BLOCK_BYTES: Final = 256 << 10
PATTERN_BYTES: Final = 999_983  # A prime, so that no two spans of a file are alike.
RANGE: Final = re.compile(r"bytes=(\d+)-(\d+)")
PATH: Final = re.compile(r"(?P<repository>[^/]+/[^/]+)/resolve/(?P<revision>[^/]+)/(?P<file>[^/]+)")


@dataclass(frozen=True, slots=True)
class Part:
    """What is asked for of a file: the head of the answer, and which bytes follow."""

    head: Response
    content: memoryview
    start: int
    end: int

    def blocks(self) -> Iterator[bytes]:
        """The bytes, block by block; what is computed comes again and again."""
        at, size = self.start, len(self.content)
        while at < self.end:
            place = at % size
            block = self.content[place : place + min(BLOCK_BYTES, self.end - at)]
            at += len(block)
            yield bytes(block)


class Hub:
    """The files, and the one line out that all who fetch share."""

    def __init__(self, *, bytes_per_s: int = SPEED_BYTES_PER_S) -> None:
        text = CORPUS.read_bytes()
        noise = hashlib.shake_256(REPOSITORY.encode()).digest(PATTERN_BYTES)
        self._files = {"corpus.txt": (text, len(text)), "weights.bin": (noise, SIZE_BYTES - len(text))}
        self._bytes_per_s = bytes_per_s
        self._free_at_s = 0.0

    def open(self, path: str, headers: Mapping[str, str], *, is_spoiled: bool = False) -> Response | Part:
        """The part that is asked for, or why there is none; spoiled, weights are not those that were published."""
        asked = PATH.fullmatch(path.removeprefix(PREFIX))
        if asked is None or f"{asked['repository']}@{asked['revision']}" != REPOSITORY:
            return _missing("RepoNotFound")
        if asked["file"] not in self._files:
            return _missing("EntryNotFound")
        content, size = self._files[asked["file"]]
        content = content[::-1] if is_spoiled else content
        span = RANGE.fullmatch(headers.get("range", ""))
        if span is None:
            return Part(Response(200, {"content-length": str(size)}, b""), memoryview(content), 0, size)
        start, end = int(span[1]), min(int(span[2]) + 1, size)
        if start >= end:
            return Response(416, {"content-range": f"bytes */{size}"}, b"")
        told = {"content-length": str(end - start), "content-range": f"bytes {start}-{end - 1}/{size}"}
        return Part(Response(206, told, b""), memoryview(content), start, end)

    async def wait(self, count_bytes: int) -> None:
        """Until the line has carried so many more bytes."""
        now_s = asyncio.get_running_loop().time()
        self._free_at_s = max(self._free_at_s, now_s) + count_bytes / self._bytes_per_s
        await asyncio.sleep(self._free_at_s - now_s)


def _missing(code: str) -> Response:
    return Response(404, {"x-error-code": code}, b"")
