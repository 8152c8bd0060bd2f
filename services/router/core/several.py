"""Running counts of a stream with several answers: those of each add up, where an engine counts each by itself.

vLLM does. One that counts all of them together is told by its count, which grows with every piece of any.
"""

from __future__ import annotations

from services.router.core.sse import Piece, Usage


class Several:
    """The counts of one stream's answers; there are ``each`` to every prompt."""

    __slots__ = ("_answers", "_are_apart", "_each", "_last", "_prompts")

    def __init__(self, each: int) -> None:
        self._each = each
        self._answers: dict[int, int] = {}
        self._prompts: dict[int, int] = {}
        self._last = (0, 0)  # Which answer counted last, and how many.
        self._are_apart = False  # Whether each is known to be counted by itself.

    def add(self, piece: Piece, usage: Usage) -> tuple[int | None, int | None]:
        """One more piece, with the ``usage`` it has; returns the tokens of all answers and of all prompts so far."""
        at, count, prompt = piece.index, usage.completion_tokens, usage.prompt_tokens
        if count is not None:
            last_at, last = self._last
            self._are_apart = self._are_apart or count < last or (count == last and at != last_at and piece.pieces > 0)
            self._last = (at, count)
            self._answers[at] = max(count, self._answers.get(at, 0))
            count = self._total(self._answers)
        if prompt is not None:
            self._prompts[at // self._each] = prompt
            prompt = self._total(self._prompts)
        return count, prompt

    def _total(self, counts: dict[int, int]) -> int:
        return sum(counts.values()) if self._are_apart else max(counts.values())
