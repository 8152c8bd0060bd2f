"""What a tier keeps warm: nodes beyond what endpoints need, so that the next replica or endpoint waits for none."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final


@dataclass(frozen=True, slots=True)
class Warm:
    """Nodes of a tier's cluster beyond what endpoints need.

    `target` while any endpoint is in it, unless the autoscaler says another number: that counts from `floor` up to
    `ceiling`, and not at all without one. The floor of a shared cluster also stands while nobody is in it.
    """

    target: int = 0
    floor: int = 0
    ceiling: int = 0

    @property
    def most(self) -> int:
        """So many there are at most."""
        return max(self.target, self.ceiling)

    def wanted(self, said: int | None) -> int:
        """How many there are to be; `said` is the autoscaler's word, None where it gave none."""
        return self.target if said is None or not self.ceiling else max(self.floor, min(said, self.ceiling))


COLD: Final = Warm()
ALL_COLD: Final[Mapping[str, Warm]] = MappingProxyType({})
