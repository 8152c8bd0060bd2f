"""Whose address a request comes from: the peer's, unless a proxy that we trust says whom it speaks for."""

from __future__ import annotations

from collections.abc import Sequence

from libs.common.errors import Rejected
from libs.common.keys import Address, Network, address_of, is_within, networks_of


def client_address(peer: str, forwarded_for: str, trusted: Sequence[Network]) -> Address | None:
    """The client's address; None if it can't be known.

    ``forwarded_for`` is read from its right end, where the nearest proxy wrote, past those that are trusted: what an
    untrusted peer says of itself counts for nothing.
    """
    address = address_of(peer)
    for said in reversed(forwarded_for.split(",")) if forwarded_for else ():
        if not is_within(address, trusted):
            break
        address = address_of(said.strip())
    return address


def trusted_proxies(blocks: str) -> tuple[Network, ...]:
    """The proxies that we believe, from MILLRACE_TRUSTED_PROXIES. Raises Rejected for what is no block of addresses."""
    try:
        return networks_of(each.strip() for each in blocks.split(",") if each.strip())
    except ValueError as wrong:
        raise Rejected(f"MILLRACE_TRUSTED_PROXIES: {wrong}", code="invalid") from wrong
