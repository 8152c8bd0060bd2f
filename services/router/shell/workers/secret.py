"""A secret of this installation on disk: made once, readable by nobody else, the same for all workers."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import Final

from libs.common.errors import Invalid
from libs.common.ids import Entropy

SECRET_BYTES: Final = 32


def kept_secret(path: str, entropy: Entropy) -> bytes:
    """What the file holds; it is made if it is not there. Raises Invalid for one that is too short to be a secret."""
    file = Path(path)
    if not file.exists():
        part = file.with_name(f"{file.name}.{os.getpid()}")
        part.touch(mode=0o600)
        part.write_bytes(entropy.token_bytes(SECRET_BYTES))
        with contextlib.suppress(FileExistsError):  # Another worker was first: its secret is everybody's.
            os.link(part, file)
        part.unlink()
    found = file.read_bytes()
    if len(found) < SECRET_BYTES:
        raise Invalid(f"{path} holds {len(found)} bytes, {SECRET_BYTES} are needed: remove it, and a new one is made")
    return found
