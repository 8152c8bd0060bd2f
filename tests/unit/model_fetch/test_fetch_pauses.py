"""How long a fetch waits before it tries again."""

from __future__ import annotations

from libs.model_fetch.fetching import PAUSE_MAX_S, Effort, pause_s
from libs.model_fetch.reasons import Interrupted


def test_a_pause_doubles_until_it_is_long_enough() -> None:
    pauses = [pause_s(each, Interrupted("broke"), Effort(pause_s=0.5)) for each in (1, 2, 3, 10)]

    assert pauses == [0.5, 1.0, 2.0, PAUSE_MAX_S]


def test_a_source_that_asks_for_time_gets_it() -> None:
    assert pause_s(1, Interrupted("HTTP 429", retry_after_s=120), Effort()) == 120
