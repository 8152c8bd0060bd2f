"""Quotas as they are said on a command line, and as they are shown."""

from __future__ import annotations

import io
from typing import Final

import pytest
from rich.console import Console

from libs.cli.quotas import quota_of, quota_table, quota_text
from libs.client import Json
from libs.common.errors import Invalid

WAS: Final[Json] = {
    "endpoints": 2,
    "replicas": None,
    "gpus": {"metal3.gpu-h100": 8, "*": 1},
    "requests_per_minute": 60_000,
    "tokens_per_minute": None,
}


def test_what_is_not_said_stays_and_none_lifts_a_limit() -> None:
    quota = quota_of(WAS, endpoints="none", replicas="4", gpus=["metal3.gpu-h100=none", "l40s=2"], at_once="8")

    assert quota == {**WAS, "endpoints": None, "replicas": 4, "concurrency": 8, "gpus": {"*": 1, "l40s": 2}}


@pytest.mark.parametrize("said", [{"endpoints": "-1"}, {"rpm": "many"}, {"gpus": ["h100"]}, {"gpus": ["=3"]}])
def test_what_is_no_limit_is_refused_with_what_to_say(said: dict[str, str]) -> None:
    with pytest.raises(Invalid, match=r"give a number, or none|say it as --gpus"):
        quota_of(WAS, **said)


def test_a_quota_is_said_in_words() -> None:
    assert quota_text(WAS) == "2 endpoints, 8 GPUs of metal3.gpu-h100, 1 GPU of each other class, 60,000 requests/min"
    assert quota_text({**WAS, "concurrency": 8}).endswith("60,000 requests/min, 8 requests at once")
    assert quota_text(quota_of({name: None for name in WAS} | {"gpus": {}})) == "no limits"


def test_what_is_held_and_free_stands_beside_each_limit_and_what_says_nothing_is_left_out() -> None:
    uses: list[Json] = [
        {"level": "tenant", "resource": "endpoints", "node_class": "", "limit": 12, "used": 3},
        {"level": "tenant", "resource": "gpus", "node_class": "l40s", "limit": None, "used": 0},
        {"level": "project", "resource": "gpus", "node_class": "l40s", "limit": 2, "used": 4},
        {"level": "project", "resource": "tokens_per_minute", "node_class": "", "limit": 1_000_000, "used": None},
    ]
    out = io.StringIO()

    Console(file=out, width=100).print(quota_table(uses))

    assert [each.split() for each in out.getvalue().splitlines()[1:]] == [
        ["tenant", "endpoints", "12", "3", "9"],
        ["project", "GPUs", "of", "l40s", "2", "4", "0"],
        ["project", "tokens", "per", "minute", "1,000,000", "at", "the", "router"],
    ]
