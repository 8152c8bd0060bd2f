"""A state and its text: what was written is at hand, and is what a process born later reads."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from pydantic import ValidationError

from libs.common.written import STATES_MAX, Written


@dataclass(frozen=True, slots=True)
class Box:
    number: int
    holds: tuple[str, ...] = ()


def test_whoever_reads_what_was_written_gets_that_very_state() -> None:
    boxes, box = Written(Box), Box(1, ("a",))

    assert boxes.state(boxes.text(box)) is box


def test_another_process_reads_the_same() -> None:
    text = Written(Box).text(Box(1, ("a",)))

    assert Written(Box).state(text) == Box(1, ("a",))


def test_a_text_that_is_no_state_is_refused_each_time() -> None:
    boxes = Written(Box)

    for _ in range(2):
        with pytest.raises(ValidationError):
            boxes.state(b'{"number": "many"}')


def test_what_nobody_asked_for_lately_is_let_go() -> None:
    boxes = Written(Box)
    old, used = Box(-1), Box(-2)
    texts = boxes.text(old), boxes.text(used)
    for number in range(STATES_MAX - 1):
        boxes.text(Box(number))
        boxes.state(texts[1])

    assert boxes.state(texts[1]) is used
    assert boxes.state(texts[0]) == old
    assert boxes.state(texts[0]) is not old
