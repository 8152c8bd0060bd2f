"""What the command line says of a domain whose proof is there, gone, or gone for good."""

from __future__ import annotations

import pytest

from libs.cli.domains import standing


@pytest.mark.parametrize(
    ("status", "said"),
    [
        ("verified", "verified"),
        ("lapsing", "lapsing: its record is gone; put it back before 2026-12-12 04:00:00"),
        ("lapsed", "lapsed: its record is gone; whoever proves it has it"),
    ],
)
def test_a_domain_says_how_it_stands_and_until_when_something_may_be_done(status: str, said: str) -> None:
    assert standing({"status": status, "lapses_at": "2026-12-12T04:00:00Z"}) == said
