"""How long the router takes to know whose key it is, with every rule on, beside a no-op."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from libs.common.client_address import client_address
from libs.common.clock import SystemClock
from libs.common.events.tables import KeyEntry
from libs.common.ids import SystemEntropy
from libs.common.keys import Keyring, Minted, mint, networks_of
from services.router.core import refusals
from tests.bench.report import Section, in_turns

TURN_S: Final = 1.0
LOOPS: Final = 1000  # Calls between two looks at the clock, which would else be most of what is measured.
KEYS_HELD: Final = 10_000
EXPIRES_MS: Final = 1 << 50
NOOP: Final = "a function that does nothing"


def measure() -> Section:
    """Microseconds of a check: the form, CRC, SHA-256, the look-up, the comparison, expiry, address and scope."""
    entropy, clock = SystemEntropy(), SystemClock()
    minted = [mint(entropy) for _ in range(KEYS_HELD)]
    ring = Keyring({each.key_id: entry_of(each) for each in minted})
    trusted = networks_of(["10.0.0.0/8"])
    key, stranger = minted[len(minted) // 2].plaintext, mint(entropy).plaintext

    def admit(bearer: str, peer: str, forwarded_for: str) -> KeyEntry | None:
        """What `Gateway.admit` does."""
        address = client_address(peer, forwarded_for, trusted)
        found = ring.check(bearer, now_ms=clock.now_ms(), address=address)
        if found is not None and "inference" not in found.scopes:
            raise refusals.scope_missing()
        return found

    assert admit(key, "192.0.2.7", "") is not None
    assert admit(key, "198.51.100.1", "") is None
    assert admit(key, "10.0.0.1", "192.0.2.7") is not None
    works: dict[str, Callable[[], object]] = {
        NOOP: lambda: None,
        "a good key, every rule on": lambda: admit(key, "192.0.2.7", ""),
        "the same behind a trusted proxy": lambda: admit(key, "10.0.0.1", "192.0.2.7"),
        "a well-formed key that nobody has": lambda: admit(stranger, "192.0.2.7", ""),
        "junk": lambda: admit("sk-junk", "192.0.2.7", ""),
    }
    rates = in_turns({name: many(work) for name, work in works.items()}, turn_s=TURN_S)
    took_us = {name: 1e6 / (rate * LOOPS) for name, rate in rates.items()}
    return Section(
        title="The key check",
        question="What does it cost a request on the router that its key is checked? At most 10 µs is promised.",
        columns=("", "µs", "ratio"),
        rows=tuple((name, f"{took:.2f}", f"{took / took_us[NOOP]:.0f}") for name, took in took_us.items()),
        notes=(
            f"{KEYS_HELD:,} keys held, each with an expiry, a list of models and two address blocks; no cache of keys.",
        ),
    )


def entry_of(minted: Minted) -> KeyEntry:
    """A key with every rule on."""
    return KeyEntry(
        key_id=minted.key_id,
        sha256=minted.sha256,
        tenant_id="t",
        project_id="p",
        scopes=("inference",),
        expires_at_ms=EXPIRES_MS,
        models=("chat",),
        allowed_ips=("2001:db8::/32", "192.0.2.0/24"),
    )


def many(work: Callable[[], object]) -> Callable[[], None]:
    """The work, many times."""

    def loop() -> None:
        for _ in range(LOOPS):
            work()

    return loop
