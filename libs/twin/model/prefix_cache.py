"""Which beginnings of prompts were read before: as vLLM's prefix cache tells it, salted the same way."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Sequence
from typing import Final

BLOCK_TOKENS: Final = 16  # vLLM's own.


class PrefixCache:
    """Blocks of tokens by the hash of everything before them; the least recently used go first."""

    def __init__(self, blocks_max: int) -> None:
        self._blocks_max = blocks_max
        self._known: OrderedDict[bytes, None] = OrderedDict()

    def read(self, tokens: Sequence[str], salt: str) -> int:
        """How many tokens at the beginning were read before under this salt; from now on all of them were."""
        cached = 0
        chain = salt.encode()
        is_known = True
        for start in range(0, len(tokens) - BLOCK_TOKENS + 1, BLOCK_TOKENS):
            block = "\0".join(tokens[start : start + BLOCK_TOKENS])
            chain = hashlib.sha256(chain + block.encode()).digest()
            is_known = is_known and chain in self._known
            cached += BLOCK_TOKENS if is_known else 0
            self._known[chain] = None
            self._known.move_to_end(chain)
        while len(self._known) > self._blocks_max:
            self._known.popitem(last=False)
        return cached
