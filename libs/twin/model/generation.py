"""One answer as it grows: tokens until a stop, a limit or the natural end."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice

from libs.twin.model.ngram import NgramModel, tokenize
from libs.twin.model.requests import Asked
from libs.twin.model.rules import Script, script_of


@dataclass(slots=True)
class Outcome:
    """How it ended, once the tokens are through."""

    finish_reason: str = "stop"


def script_for(model: NgramModel, asked: Asked) -> Script | None:
    """What the rules of tools and formats make of a request; None if the model may say what it likes."""
    said = model.generate(asked.prompt, seed=asked.seed, temperature=asked.temperature)
    return script_of(
        tools=asked.tools,
        choice=asked.tool_choice,
        prompt=asked.last if asked.last_role == "user" else asked.prompt,
        last_role=asked.last_role,
        wants=asked.wants,
        answer=islice(said, asked.max_tokens),
    )


def scripted(script: Script, asked: Asked, outcome: Outcome) -> Iterator[str]:
    """The tokens of what the rules make it say, as many as may be."""
    words = tokenize(script.text)
    is_whole = len(words) <= asked.max_tokens
    outcome.finish_reason = ("tool_calls" if script.tool else "stop") if is_whole else "length"
    yield from words[: asked.max_tokens]


def tokens(model: NgramModel, asked: Asked, outcome: Outcome) -> Iterator[str]:
    """The tokens to send, one by one. What might begin a stop text is held back until it is known not to."""
    held: list[str] = []
    for token in _limited(model, asked, outcome):
        held.append(token)
        text = "".join(held)
        found = [place for place in (text.find(each) for each in asked.stops) if place >= 0]
        if found:
            outcome.finish_reason = "stop"
            yield from _cut(held, min(found))
            return
        while held and not _may_begin_a_stop("".join(held), asked.stops):
            yield held.pop(0)
    yield from held


def _limited(model: NgramModel, asked: Asked, outcome: Outcome) -> Iterator[str]:
    count = 0
    round_ = 0
    while True:
        for token in model.generate(asked.prompt, seed=asked.seed + round_, temperature=asked.temperature):
            yield token.lstrip() if asked.is_chat and count == 0 else token
            count += 1
            if count >= asked.max_tokens:
                outcome.finish_reason = "length"
                return
        if not asked.ignore_eos and count >= asked.min_tokens:
            return
        round_ += 1


def _may_begin_a_stop(text: str, stops: tuple[str, ...]) -> bool:
    return any(stop.startswith(text[place:]) for stop in stops for place in range(len(text)))


def _cut(held: list[str], length: int) -> Iterator[str]:
    for each in held:
        if length <= 0:
            return
        yield each[:length]
        length -= len(each)
