"""What a ledger line says of what was sold, beside whose it is: the dimensions that usage can be asked by.

What is not known of a line is empty: a request's line does not know the class of the node that served it.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, fields
from functools import lru_cache


@dataclass(frozen=True, slots=True)
class Labels:
    """The dimensions of a line that its account and meter do not say."""

    model: str = ""
    generation: int = 0
    tier: str = ""
    region: str = ""
    node_class: str = ""
    tenancy: str = ""
    key: str = ""
    adapter: str = ""


@lru_cache(maxsize=4096)
def text_of(labels: Labels) -> str:
    """Labels as the ledger keeps them: one text for the same labels, without what is not known."""
    known = {name: each for name, each in asdict(labels).items() if each}
    return json.dumps(known, sort_keys=True, separators=(",", ":"))


@lru_cache(maxsize=4096)
def labels_of(text: str) -> Labels:
    """The labels in a text; a line that is older than labels has none, and what a later build added is left out."""
    said = json.loads(text) if text else {}
    return Labels(**{each.name: said[each.name] for each in fields(Labels) if each.name in said})
