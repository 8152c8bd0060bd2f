"""Who remembers a prompt: marks of its beginning, and the replica that each mark was last seen on.

An engine keeps the work on a prompt by blocks from its beginning, so two prompts share what their common beginning
holds. A mark stands for all bytes up to the end of one block: the longest mark that is known names the replica. The
bytes are hashed, never kept. A wrong guess, or two prompts with one mark, costs a cache miss and nothing else.
"""

from __future__ import annotations

from typing import Final
from zlib import crc32

BLOCK_BYTES: Final = 1024  # Some 250 tokens: less is computed again in a few milliseconds.
BLOCKS_MAX: Final = 16  # What prompts of one application share lies in the first 16 KB; 12 us to hash all of it.
PROMPT_BYTES: Final = BLOCKS_MAX * BLOCK_BYTES  # More of it is not looked at.
KNOWN_MAX: Final = 16_384  # Marks per endpoint: 2 MB, and some thousand prompts, about what engines hold.
SESSION: Final = BLOCKS_MAX + 1  # The mark of a session lies deeper than any block.

Marks = tuple[int, ...]


def marks(prompt: bytes | memoryview, *, session: str = "", adapter: str = "") -> Marks:
    """The marks of a prompt, longest first. A session is a mark of its own; an adapter is where all of them begin."""
    seen = first = crc32(adapter.encode()) if adapter else 0
    found = [seen << 5] if adapter else []
    for depth, end in enumerate(range(BLOCK_BYTES, min(len(prompt), PROMPT_BYTES) + 1, BLOCK_BYTES), 1):
        seen = crc32(prompt[end - BLOCK_BYTES : end], seen)
        found.append(seen << 5 | depth)
    if session:
        found.append(crc32(session.encode(), first) << 5 | SESSION)
    found.reverse()
    return tuple(found)


class Memory:
    """Which replica was given each mark last; those not seen for the longest time are forgotten."""

    __slots__ = ("_known", "_known_max")

    def __init__(self, known_max: int = KNOWN_MAX) -> None:
        self._known: dict[int, str] = {}
        self._known_max = known_max

    def __len__(self) -> int:
        """How many marks are known."""
        return len(self._known)

    def recall(self, prompt: Marks) -> str:
        """The name of the replica that remembers most of it; empty if none does."""
        known = self._known
        for mark in prompt:
            name = known.get(mark)
            if name is not None:
                return name
        return ""

    def learn(self, prompt: Marks, replica: str) -> None:
        """The replica was given the prompt."""
        known = self._known
        for mark in prompt:
            if mark in known:
                del known[mark]  # It becomes the newest.
            known[mark] = replica
        while len(known) > self._known_max:
            del known[next(iter(known))]
