"""Webhooks as people see them in a row: a state and a result in a few words, a secret in one piece."""

from __future__ import annotations

import pytest

from libs.cli.webhooks import result, state


@pytest.mark.parametrize(
    ("disabled", "failed_attempts", "said"),
    [
        ("", 0, "active"),
        ("", 1, "failing, 1 try"),
        ("", 3, "failing, 3 tries"),
        ("receiver_gone", 1, "disabled: receiver gone"),
    ],
)
def test_the_state_of_a_webhook_is_a_few_words(disabled: str, failed_attempts: int, said: str) -> None:
    assert state({"disabled": disabled, "failed_attempts": failed_attempts}) == said


@pytest.mark.parametrize(
    ("status", "error", "attempts", "said"),
    [
        (204, "", 1, "delivered"),
        (204, "", 2, "delivered, 2 tries"),
        (500, "", 1, "500"),
        (0, "no connection", 3, "no connection, 3 tries"),
        (0, "", 1, "no answer"),
    ],
)
def test_the_result_of_a_delivery_is_a_few_words(status: int, error: str, attempts: int, said: str) -> None:
    told = {"status": status, "error": error, "delivered": status == 204, "attempts": attempts}

    assert result(told) == said
