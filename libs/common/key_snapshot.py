"""All keys at once, signed: how routers hear of a revocation when the bus is silent.

endpoint-api shows it on its admin port; routers pull it. On the wire it is one line with the signature in hex, then
JSON. An Ed25519 signature rather than a shared secret: who holds a router can check snapshots, and not make one.
"""

from __future__ import annotations

from typing import Final

from pydantic import ValidationError

from libs.common.errors import Invalid
from libs.common.events.event import Contract
from libs.common.events.tables import KeyEntry
from libs.common.signing import Checker, Signer
from libs.common.units import DAY_MS

PATH: Final = "/key-snapshot"
PURPOSE: Final = b"millrace key snapshot v1|"  # A signature of anything else under the same key is none of this.
OVER_KEPT_MS: Final = 30 * DAY_MS  # How long a key is named as over: no router serves from what it heard before that.


class KeySnapshot(Contract):
    """What is so of keys. ``(epoch, version)`` never goes back; a key that is in neither list is not spoken of.

    It says at least what was so at its version, and perhaps some of what came right after.
    """

    epoch: int  # Raised by an operator who went back to an old database.
    version: int  # Raised by every change of a key, in the commit of the change.
    issued_at_ms: int
    keys: tuple[KeyEntry, ...]
    over: tuple[str, ...]  # Ids that are refused for good.

    @property
    def mark(self) -> tuple[int, int]:
        """Where it stands among all snapshots."""
        return self.epoch, self.version


def sealed(snapshot: KeySnapshot, signer: Signer) -> bytes:
    """The snapshot as it travels."""
    text = snapshot.model_dump_json().encode()
    return signer.sign(PURPOSE + text).hex().encode() + b"\n" + text


def opened(content: bytes, checker: Checker) -> KeySnapshot:
    """What was sealed. Raises Invalid if it is not whole, or not signed by whom the checker trusts."""
    signature, _, text = content.partition(b"\n")
    try:
        is_good = checker.is_good(PURPOSE + text, bytes.fromhex(signature.decode("ascii")))
        snapshot = KeySnapshot.model_validate_json(text) if is_good else None
    except (ValueError, ValidationError):  # Of the hex, or of a signed text that a later version wrote otherwise.
        snapshot = None
    if snapshot is None:
        raise Invalid("the key snapshot is not whole, or not signed by whom we trust: nothing of it is taken")
    return snapshot
