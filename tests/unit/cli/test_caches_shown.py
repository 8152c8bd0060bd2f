"""What `millrace caches` shows of where models lie."""

from __future__ import annotations

from typing import Any, Final

from rich.console import Console, RenderableType

from libs.cli.caches import models, places

GIB: Final = 1 << 30
NODE: Final[dict[str, Any]] = {
    "kind": "node",
    "cluster": "pool-l40s-eu-1",
    "name": "node-7",
    "used_bytes": 40 * GIB,
    "capacity_bytes": 1000 * GIB,
    "hits": 3,
    "misses": 2,
    "evictions": 1,
    "delay": "",
    "models": [
        {
            "digest": "sha256:" + "ab" * 32,
            "size_bytes": 40 * GIB,
            "used_at": "2026-11-28T10:00:00+00:00",
            "hits": 3,
            "kept_for": "",
            "pods": ["p1", "p2"],
        }
    ],
}
VOLUME: Final = {**NODE, "kind": "volume", "cluster": "ep-a", "name": "ep-a", "capacity_bytes": 0, "delay": "no answer"}


def drawn(what: RenderableType) -> list[list[str]]:
    console = Console(width=160)
    with console.capture() as capture:
        console.print(what)
    return [[each for each in line.split("  ") if each] for line in capture.get().splitlines()]


def words(what: RenderableType) -> list[list[str]]:
    return [[each.strip() for each in line if each.strip()] for line in drawn(what)]


def test_a_cache_says_where_it_is_what_it_holds_and_what_it_spared() -> None:
    _, node, volume = words(places([NODE, VOLUME]))

    assert node == ["pool-l40s-eu-1/node-7", "node", "40 GiB", "1000 GiB", "3", "2", "1", "-"]
    assert volume == ["ep-a", "volume", "40 GiB", "its disk", "3", "2", "1", "no answer"]


def test_a_model_says_for_whom_it_is_kept_and_how_many_pods_have_it() -> None:
    _, model = words(models([NODE]))

    assert model == [
        "pool-l40s-eu-1/node-7", "sha256:abababababab", "40 GiB", "2026-11-28 10:00:00", "3", "nobody", "2"
    ]  # fmt: skip


def test_without_a_cache_it_says_what_makes_one() -> None:
    assert "templates with `cache` or `claim`" in str(places([]))
