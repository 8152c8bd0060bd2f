"""The gate: files are written and published only if nobody who relies on a published one is let down.

What is published is named with its hash in `schemas/published.sha256`. A new text is compared with the file as it lies
there and with the last commit's (or, in CI, with any other's): editing or removing the file and its hash by hand does
not make room for a break.
"""

from __future__ import annotations

import hashlib
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[3] / "schemas"
HASHES: Final = "published.sha256"
GIT_S: Final = 30  # A busy disk; more is a hang.

Broken = Callable[[str, str], Iterator[str]]


@dataclass(frozen=True, slots=True)
class Part:
    """Files that one writer owns: all below `folders`, and what of a published one a new text breaks.

    `promises` are published. `rest` makes examples and lists, which may change as they like. It is asked only when no
    promise is broken: an example that fits its model no more must not be all that is heard of a break.
    """

    promises: Mapping[str, str]
    folders: Sequence[str]
    broken: Broken
    rest: Callable[[], Mapping[str, str]] = dict

    def owns(self, path: str) -> bool:
        """Whether a file below `schemas/` is this writer's."""
        return path in self.promises or any(path.startswith(f"{each}/") for each in self.folders)


@dataclass(frozen=True, slots=True)
class Gate:
    """Writes a part, or says why not."""

    root: Path = ROOT
    against: str = "HEAD"

    def breaks(self, part: Part) -> list[str]:
        """What would let somebody down; each names the file, so the event and its version, and the field."""
        found = []
        committed = parse(self._git_show(HASHES) or "")
        hashes = {**committed, **self._listed()}
        for path in sorted(path for path in hashes if part.owns(path)):
            if path not in part.promises:
                found.append(f"schemas/{path} has no model any more: a published version never goes")
                continue
            baselines = list(self._baselines(path, part.promises[path], committed.get(path)))
            if hashes[path] not in {hash_of(each) for each in (*baselines, part.promises[path])}:
                found.append(f"schemas/{path} is not the file that was published: bring it back from git")
            for baseline in baselines:
                found += [
                    f"schemas/{path} is published and {each}: make a new version beside it"
                    for each in part.broken(baseline, part.promises[path])
                ]
        return sorted(set(found))

    def stale(self, part: Part) -> list[str]:
        """Files that are not what they should be, though nothing is broken."""
        found = []
        listed = self._listed()
        contents = {**part.promises, **part.rest()}
        for path, text in contents.items():
            file = self.root / path
            if not file.exists():
                found.append(f"schemas/{path} is missing: run `make schemas`")
            elif file.read_text() != text:
                found.append(f"schemas/{path} is stale: run `make schemas` and read the diff")
            elif path in part.promises and listed.get(path) != hash_of(text):
                found.append(f"schemas/{path} is not in {HASHES} as it is: run `make schemas`")
        for file in sorted(self.root.rglob("*")):
            path = file.relative_to(self.root).as_posix()
            if file.is_file() and path not in contents and path not in listed and part.owns(path):
                found.append(f"schemas/{path} has no model: remove it")
        return found

    def write(self, part: Part) -> None:
        """Write the files and publish them as they are now."""
        listed = self._listed()
        for path, text in (*part.promises.items(), *part.rest().items()):
            (self.root / path).parent.mkdir(parents=True, exist_ok=True)
            (self.root / path).write_text(text)
        listed |= {path: hash_of(text) for path, text in part.promises.items()}
        lines = (f"{hash_}  {path}\n" for path, hash_ in sorted(listed.items(), key=lambda each: each[0]))
        (self.root / HASHES).write_text("".join(lines))

    def run(self, part: Part, *, check: bool) -> int:
        """Write, or with ``check`` only look; says what is wrong on stderr and gives 1 if anything is."""
        complaints = self.breaks(part)
        if check and not complaints:
            complaints = self.stale(part)
        for each in complaints:
            sys.stderr.write(f"{each}\n")
        if not complaints and not check:
            self.write(part)
            sys.stdout.write(f"schemas/ has {len(part.promises)} promises and what goes with them\n")
        return 1 if complaints else 0

    def _baselines(self, path: str, text: str, committed_hash: str | None) -> Iterator[str]:
        """The published texts that the new one must not break, if they differ from it."""
        file = self.root / path
        if file.exists():
            yield file.read_text()
        if committed_hash not in (None, hash_of(text)):
            committed = self._git_show(path)
            if committed is not None:
                yield committed

    def _listed(self) -> dict[str, str]:
        file = self.root / HASHES
        return parse(file.read_text()) if file.exists() else {}

    def _git_show(self, path: str) -> str | None:
        """A file below `schemas/` as it was committed; None outside a clone, or if it was not there."""
        command = ["git", "show", f"{self.against}:./{path}"]
        try:
            said = subprocess.run(command, cwd=self.root, capture_output=True, text=True, timeout=GIT_S, check=False)  # noqa: S603 - our own words.
        except FileNotFoundError:
            return None
        return said.stdout if said.returncode == 0 else None


def parse(text: str) -> dict[str, str]:
    """Hashes by path."""
    return {path: hash_ for hash_, path in (line.split("  ", 1) for line in text.splitlines())}


def hash_of(text: str) -> str:
    """How a published text is known."""
    return hashlib.sha256(text.encode()).hexdigest()
