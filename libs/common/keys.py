"""API keys: their form, their hash, and a ring that checks them without asking anybody.

``mr_<live|test>_<id>_<secret>_<crc>``: 10 characters of id (lower case, public), 43 of secret (256 bits), 6 of CRC-32,
so that random junk is refused without a look-up and a leaked key is recognised by scanners. A fast hash is right: the
secret has 256 bits, and a slow hash would let anybody stop the service (reliability.md L18).
"""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import re
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from libs.common.events.tables import KeyEntry
from libs.common.ids import Entropy, KeyId

ALPHABET: Final = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
ID_ALPHABET: Final = "abcdefghijklmnopqrstuvwxyz234567"
ID_LENGTH: Final = 10
SECRET_LENGTH: Final = 43  # 62^43 > 2^256.
CRC_LENGTH: Final = 6
ID_AT: Final = len("mr_live_")
Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network
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
    # Half of a surrogate pair is no text, but no reason to fail either: no key has one.
    return hashlib.sha256(b"v1|" + plaintext.encode(errors="surrogatepass")).hexdigest()


class Keyring:
    """The keys that hold now, by id; swapped whole or changed one by one, read without a lock.

    What a check needs beyond the entry, its CIDR blocks as networks, is made when the key changes, not when it is used.
    """

    def __init__(self, entries: Mapping[str, KeyEntry] | None = None) -> None:
        self._held: dict[str, tuple[KeyEntry, tuple[Network, ...]]] = {}
        self._spenders: dict[str, dict[str, KeyEntry]] = {}  # By budget, those that have one.
        self.edition = object()  # Another one after each change: in the same one all is as it was, but for the time.
        for key_id, entry in (entries or {}).items():
            self.change(key_id, entry)

    def change(self, key_id: str, entry: KeyEntry | None) -> None:
        """Set a key, or forget it. Raises ValueError, and forgets it, if a block that it may be used from is none."""
        try:
            self._change(key_id, entry)
        finally:
            self.edition = object()

    def _change(self, key_id: str, entry: KeyEntry | None) -> None:
        before = self._held.get(key_id)
        if before is not None and before[0].budget:
            spenders = {id_: each for id_, each in self._spenders[before[0].budget].items() if id_ != key_id}
            self._spenders[before[0].budget] = spenders
        if entry is None:
            self._held.pop(key_id, None)
            return
        try:
            self._held[key_id] = (entry, networks_of(entry.allowed_ips))
        except ValueError:
            self._held.pop(key_id, None)
            raise
        if entry.budget:
            self._spenders[entry.budget] = {**self._spenders.get(entry.budget, {}), key_id: entry}

    def budgets(self) -> list[str]:
        """The budgets that keys have."""
        return [name for name, spenders in list(self._spenders.items()) if spenders]

    def spender(self, budget: str) -> KeyEntry | None:
        """A key that spends this budget; all that do say the same of it."""
        return next(iter(self._spenders.get(budget, {}).values()), None)

    def check(self, plaintext: str, *, now_ms: int, address: Address | None = None) -> KeyEntry | None:
        """The entry of a key that is good now; None for every other, whatever is wrong with it.

        A key with an allow-list is good only from an ``address`` in it, so not from an unknown one.
        """
        # The id by its place alone: what has a known id and the right hash is the whole key, its form and CRC included.
        held = self._held.get(plaintext[ID_AT : ID_AT + ID_LENGTH])
        if held is None or not hmac.compare_digest(held[0].sha256, digest(plaintext)):
            return None
        entry, networks = held
        if entry.expires_at_ms is not None and now_ms >= entry.expires_at_ms:
            return None
        return entry if not networks or is_within(address, networks) else None

    def holds(self, entry: KeyEntry, *, now_ms: int) -> bool:
        """Whether what `check` found is what it would find now, for the same key from the same address.

        Whatever is said of a key makes another entry of it, so nothing need be hashed or compared again.
        """
        held = self._held.get(entry.key_id)
        return held is not None and held[0] is entry and (entry.expires_at_ms is None or now_ms < entry.expires_at_ms)

    def is_revoked(self, entry: KeyEntry) -> bool:
        """Whether a key that `check` let in was taken back since; one whose time ran out may end what it began."""
        held = self._held.get(entry.key_id)
        return held is None or held[0].sha256 != entry.sha256


def networks_of(blocks: Iterable[str]) -> tuple[Network, ...]:
    """CIDR blocks as networks. Raises ValueError for one that is none, or has bits beyond its prefix."""
    return tuple(ipaddress.ip_network(each) for each in blocks)


@lru_cache(maxsize=4096)  # Of who asks often; the limit is there for those who would fill it.
def address_of(text: str) -> Address | None:
    """An IP address; of an IPv4 one in IPv6 clothes (``::ffff:192.0.2.1``) the IPv4 one. None if it is none."""
    try:
        found = ipaddress.ip_address(text)
    except ValueError:
        return None
    return found.ipv4_mapped or found if isinstance(found, ipaddress.IPv6Address) else found


def is_within(address: Address | None, networks: Iterable[Network]) -> bool:
    """Whether the address is in one of the networks."""
    return address is not None and any(address in each for each in networks)


def _base62(number: int, length: int) -> str:
    digits = []
    for _ in range(length):
        number, digit = divmod(number, 62)
        digits.append(ALPHABET[digit])
    return "".join(digits)


def _crc(head: str) -> str:
    return _base62(zlib.crc32(head.encode()), CRC_LENGTH)
