"""What endpoint-api needs of the world."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

from libs.common.clock import Clock
from libs.common.ids import Entropy, SystemEntropy
from libs.common.key_use import KeyUse
from libs.common.keys import Network
from libs.common.store.port import Store
from services.endpoint_api.core.catalogue import Catalogue


class Texts(Protocol):
    """What DNS says of a name."""

    def texts(self, name: str) -> tuple[str, ...]:
        """The texts of its TXT records; none if there are none. Raises Unavailable if nobody answers."""


class NoTexts:
    """Where nothing is looked up: nobody has proved anything."""

    def texts(self, name: str) -> tuple[str, ...]:
        """None."""
        del name
        return ()


@dataclass(frozen=True, slots=True)
class Ports:
    """A store, a clock, chance for secrets, and what is sold to whom and how much of it."""

    store: Store
    clock: Clock
    catalogue: Catalogue
    entropy: Entropy = field(default_factory=SystemEntropy)
    endpoints_max: int = 20
    keys_max: int = 100
    master_secret: bytes = field(default=b"", repr=False)  # Empty: one that is kept in the store.
    webhooks_to_loopback: bool = False
    trusted_proxies: tuple[Network, ...] = ()
    dns: Texts = field(default_factory=NoTexts)
    key_use: KeyUse = field(default_factory=KeyUse)  # Of keys that were let in here.
