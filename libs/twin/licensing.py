"""What a rendered cluster template needs of the licence."""

from __future__ import annotations

from collections.abc import Collection
from functools import lru_cache

import yaml

from libs.twin.objects import Json


def unlicensed(values: str, objects: str, features: Collection[str]) -> str:
    """The first feature that the two texts of a template use and the licence has not; empty if it may be used."""
    return next((each for each in _needed(values, objects) if each not in features), "")


def objects_in(text: str) -> list[Json]:
    """The objects that a template makes in the tenant cluster."""
    return [each for each in yaml.safe_load_all(text) if each]


@lru_cache(maxsize=256)
def _needed(values: str, objects: str) -> tuple[str, ...]:
    config = yaml.safe_load(values) or {}
    private = config.get("privateNodes") or {}
    needed = ["vcp-distro-private-nodes"] if private.get("enabled") else []
    if private.get("autoNodes"):
        needed.append("private-nodes-auto-nodes")
    if any(each.get("kind") == "RuntimeClass" and each.get("handler") == "vnode" for each in objects_in(objects)):
        needed.append("vnode-runtime")
    if config.get("snapshots"):
        needed.append("scheduled-snapshots")
    return tuple(needed)
