"""What a fact says of an endpoint's replicas, adapters, volume or cached models, as counts from then on."""

from __future__ import annotations

from collections import Counter
from typing import Final

from libs.common.errors import Invalid
from libs.common.events.caches import ModelEvicted, ModelHit, ModelReleased, ModelWarmed
from libs.common.events.envelope import Envelope
from libs.common.events.runtime import ReplicasChanged, VolumeChanged
from libs.common.units import MIB
from services.metering.core.things import (
    CachedSince,
    Roster,
    Things,
    VolumeSince,
    with_cached,
    with_roster,
    with_volume,
)

BYTES_MAX: Final = 1 << 50  # A month of a pebibyte adds up within 64 bits; of one endpoint, none is larger.


def counted(things: Things, envelope: Envelope) -> Things:
    """The things with what was told. Raises Invalid for sizes that cannot be true."""
    sequence, at_ms = envelope.sequence, envelope.time_ms
    match envelope.data:
        case VolumeChanged() as volume:
            return with_volume(things, VolumeSince(sequence, at_ms, _mib(envelope, volume.capacity_bytes)))
        case ReplicasChanged() as changed:
            adapters = Counter(name for each in changed.replicas for name in each.adapters)
            roster = Roster(sequence, at_ms, len(changed.replicas), tuple(sorted(adapters.items())))
            return with_roster(things, roster)
        case ModelWarmed() | ModelHit() as there:
            mib = _mib(envelope, there.size_bytes)
            return with_cached(things, CachedSince(sequence, at_ms, mib, _name(envelope, there.model_digest)))
        case ModelReleased() | ModelEvicted() as gone:
            return with_cached(things, CachedSince(sequence, at_ms, 0, _name(envelope, gone.model_digest)))
    raise AssertionError(f"nothing is counted of {envelope.type}")


def _name(envelope: Envelope, digest: str) -> str:
    """A model in a cache: its place in the ledger's ids, and whose sequence orders what is told of it."""
    return f"{envelope.subject}/{digest.removeprefix('sha256:')[:16]}"


def _mib(envelope: Envelope, size_bytes: int) -> int:
    """Mebibytes; a part of one is one."""
    if size_bytes > BYTES_MAX:
        raise Invalid(f"{envelope.type} of {envelope.subject} has {size_bytes} bytes; no volume is so large")
    return -(-size_bytes // MIB)
