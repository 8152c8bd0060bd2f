"""Looking for a unique string everywhere that a system writes to: files, databases, the broker's store, pages.

A canary is letters and digits only, so that JSON, URLs and logs all write it as it is; in hex or base64 it is found as
well. What is compressed is not: nothing of ours is.
"""

from __future__ import annotations

import base64
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Final

FILE_BYTES_MAX: Final = 64 * 1024 * 1024  # A store of our tests is a few MiB; more is a mistake, and said so.


def forms(canary: str) -> tuple[bytes, ...]:
    """The canary as it may be written down."""
    plain = canary.encode()
    # Of the three ways to lie in base64 the part that does not depend on its neighbours.
    inner = (base64.b64encode(b"\0" * shift + plain)[4 if shift else 0 :][:-4] for shift in range(3))
    return (plain, plain.hex().encode(), *inner)


def sightings(texts: Mapping[str, bytes], canaries: Iterable[str]) -> Iterator[str]:
    """Where which canary was seen."""
    for canary in canaries:
        for name, text in texts.items():
            if any(form in text for form in forms(canary)):
                yield f"{canary[:6]}… in {name}"


def files(root: Path) -> dict[str, bytes]:
    """Every file below a directory by its name; one that goes while we look held nothing for long."""
    found: dict[str, bytes] = {}
    for path in sorted(root.rglob("*")):
        try:
            if path.is_file():
                assert path.stat().st_size < FILE_BYTES_MAX, path
                found[str(path.relative_to(root))] = path.read_bytes()
        except FileNotFoundError:
            continue
    return found
