"""API keys: their form, their hash, and a ring that checks them without asking anybody.

``mr_<live|test>_<id>_<secret>_<crc>``: 10 characters of id (lower case, public), 43 of secret (256 bits), 6 of CRC-32,
so that random junk is refused without a look-up and a leaked key is recognised by scanners. A fast hash is right: the
secret has 256 bits, and a slow hash would let anybody stop the service (reliability.md L18).
"""

from __future__ import annotations

import hashlib
import hmac
import re
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from libs.common.events.tables import KeyEntry
from libs.common.ids import Entropy, KeyId

ALPHABET: Final = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
ID_ALPHABET: Final = "abcdefghijklmnopqrstuvwxyz234567"
ID_LENGTH: Final = 10
SECRET_LENGTH: Final = 43  # 62^43 > 2^256.
CRC_LENGTH: Final = 6
FORM: Final = re.compile(r"mr_(?:live|test)_([a-z2-7]{10})_([0-9A-Za-z]{43})_([0-9A-Za-z]{6})")


@dataclass(frozen=True, slots=True)
class Minted:
    """A new key: `plaintext` is shown once and kept nowhere."""

    key_id: KeyId
    plaintext: str
    sha256: str

    def __repr__(self) -> str:
        """Without the secret, so that it can't slip into a log."""
        return f"Minted(key_id={self.key_id!r})"


def mint(entropy: Entropy, *, live: bool = True) -> Minted:
    """Make a new key."""
    number = int.from_bytes(entropy.token_bytes(ID_LENGTH), "big")
    key_id = KeyId("".join(ID_ALPHABET[(number >> (5 * place)) & 31] for place in range(ID_LENGTH)))
    secret = _base62(int.from_bytes(entropy.token_bytes(32), "big"), SECRET_LENGTH)
    head = f"mr_{'live' if live else 'test'}_{key_id}_{secret}"
    plaintext = f"{head}_{_crc(head)}"
    return Minted(key_id, plaintext, digest(plaintext))


def key_id_of(text: str) -> KeyId | None:
    """The id in a well-formed key; None for anything else. Costs no look-up."""
    form = FORM.fullmatch(text)
    if form is None or _crc(text[: -CRC_LENGTH - 1]) != form.group(3):
        return None
    return KeyId(form.group(1))


def digest(plaintext: str) -> str:
    """The hash that is stored: SHA-256 over a version tag and the whole key, in hex."""
    return hashlib.sha256(b"v1|" + plaintext.encode()).hexdigest()


class Keyring:
    """The keys that hold now, by id; swapped whole or changed one by one, read without a lock."""

    def __init__(self, entries: Mapping[str, KeyEntry] | None = None) -> None:
        self._entries: dict[str, KeyEntry] = dict(entries or {})

    def change(self, key_id: str, entry: KeyEntry | None) -> None:
        """Set a key, or forget it."""
        if entry is None:
            self._entries.pop(key_id, None)
        else:
            self._entries[key_id] = entry

    def check(self, plaintext: str, *, now_ms: int) -> KeyEntry | None:
        """The entry of a key that is good now; None for every other, whatever is wrong with it."""
        key_id = key_id_of(plaintext)
        entry = self._entries.get(key_id) if key_id else None
        if entry is None or not hmac.compare_digest(entry.sha256, digest(plaintext)):
            return None
        if entry.expires_at_ms is not None and now_ms >= entry.expires_at_ms:
            return None
        return entry


def _base62(number: int, length: int) -> str:
    digits = []
    for _ in range(length):
        number, digit = divmod(number, 62)
        digits.append(ALPHABET[digit])
    return "".join(digits)


def _crc(head: str) -> str:
    return _base62(zlib.crc32(head.encode()), CRC_LENGTH)
