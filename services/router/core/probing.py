"""Probing keys: made by a router for one look at one endpoint, good for seconds, in nobody's list and on no bill.

``mr_probe_<what it may see>.<proof>``: base64url of who, what and until when, and an HMAC of that under a secret that
routers of one installation share. So any of them, and any of their workers, knows the key without having heard of it,
and nothing of it is kept anywhere. It opens ``/v1/models/<endpoint>`` alone: what it lets in never reaches an engine.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
from typing import Final

from libs.common.events.tables import KeyEntry, RouteEntry
from libs.common.units import SECOND_MS

PREFIX: Final = "mr_probe_"
SCOPE: Final = "probe"
GOOD_FOR_MS: Final = 30 * SECOND_MS  # A look takes a few; the rest is for clocks of routers that differ.
BYTES_MAX: Final = 1024  # A longer one is nobody's, and not worth a hash.
_USE: Final = b"millrace probing key v1"  # The secret has other uses too: what is made for one proves nothing there.


def probing_key(secret: bytes, entry: RouteEntry, *, now_ms: int) -> str:
    """A key for one look at this endpoint from now on."""
    said = [entry.tenant_id, entry.project_id, entry.name, now_ms + GOOD_FOR_MS]
    text = base64.urlsafe_b64encode(json.dumps(said, separators=(",", ":")).encode()).decode()
    return f"{PREFIX}{text}.{_proof(secret, text)}"


def opened(secret: bytes, key: str, now_ms: int) -> KeyEntry | None:
    """What a probing key may see; None if it is none, not ours, or no longer good."""
    if not key.startswith(PREFIX) or len(key) > BYTES_MAX:
        return None
    text, _, proof = key.removeprefix(PREFIX).partition(".")
    if not hmac.compare_digest(proof.encode(), _proof(secret, text).encode()):
        return None
    try:
        tenant_id, project_id, name, until_ms = json.loads(base64.urlsafe_b64decode(text))
    except (binascii.Error, ValueError):
        return None
    if now_ms >= until_ms:
        return None
    return KeyEntry(
        key_id="probe",
        sha256="",
        tenant_id=tenant_id,
        project_id=project_id,
        scopes=(SCOPE,),
        expires_at_ms=until_ms,
        models=(name,),
    )


def _proof(secret: bytes, text: str) -> str:
    own = hmac.digest(secret, _USE, hashlib.sha256)
    return hmac.digest(own, text.encode(), hashlib.sha256).hex()
