"""A small language model: which word follows the last few, learnt from a text at start."""

from __future__ import annotations

import hashlib
import random
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Final

CORPUS: Final = Path(__file__).with_name("corpus.txt")
TOKEN: Final = re.compile(r"\s*(?:\w+|[^\w\s])")
END: Final = "\n\n"  # What stands after the last token of a paragraph: the end of a text.
Context = tuple[str, ...]


def tokenize(text: str) -> list[str]:
    """Words and marks, each with the space before it; together they are the text, but for trailing space."""
    return TOKEN.findall(text)


class NgramModel:
    """Gives one token after another; the same prompt and seed give the same tokens."""

    def __init__(self, text: str, *, order: int) -> None:
        assert order >= 2, order
        self._order = order
        self._next: dict[Context, Counter[str]] = {}
        self._starts: list[list[str]] = []
        for paragraph in text.split("\n\n"):
            tokens = tokenize(paragraph.strip())
            if tokens:
                self._learn(tokens)

    @classmethod
    def trained(cls, *, order: int) -> NgramModel:
        """A model of the text that ships with it."""
        return cls(CORPUS.read_text(), order=order)

    def generate(self, prompt: str, *, seed: int, temperature: float) -> Iterator[str]:
        """Tokens that follow the prompt; ends where a paragraph of the text would."""
        digest = hashlib.sha256(f"{seed}|{prompt}".encode()).digest()
        chance = random.Random(digest)
        said = tokenize(prompt.strip())[-self._order :]
        context = tuple(f" {each.strip()}" for each in said)
        if self._known(context[-2:]) is None:
            start = chance.choice(self._starts)
            yield from start
            context = tuple(start)
        while True:
            token = self._choose(context, chance, temperature)
            if token == END:
                return
            yield token
            context = (*context, token)[-self._order :]

    def following(self, token: str) -> Counter[str]:
        """How often each token came after this one."""
        return self._next.get((f" {token.strip()}",)) or Counter()

    def _learn(self, tokens: list[str]) -> None:
        sentence_starts = [place + 1 for place, each in enumerate(tokens[:-4]) if each.strip() in {".", "!", "?"}]
        self._starts.extend(tokens[place : place + 2] for place in [0, *sentence_starts])
        for place, token in enumerate([*tokens, END]):
            for length in range(1, self._order):
                if place >= length:
                    context = tuple(tokens[place - length : place])
                    self._next.setdefault(context, Counter())[token] += 1

    def _known(self, context: Context) -> Counter[str] | None:
        return self._next.get(context)

    def _choose(self, context: Context, chance: random.Random, temperature: float) -> str:
        for length in range(self._order - 1, 0, -1):
            found = self._known(context[-length:])
            if found is None:
                continue
            if temperature <= 0:
                return min(found, key=lambda token: (-found[token], token))
            weights = [count ** (1 / max(temperature, 0.05)) for count in found.values()]
            return chance.choices(list(found), weights)[0]
        return END
