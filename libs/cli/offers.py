"""`millrace tiers` and `millrace models`: what can be bought, what can be served."""

from __future__ import annotations

from typing import Any

from rich.table import Table

from libs.cli.output import amount, table

Json = dict[str, Any]


def tier_table(tiers: list[Json]) -> Table:
    """Tiers, one a line."""
    return table(
        ("tier", "gpu", "gpus/replica", "replicas", "regions", "description"),
        [
            (
                each["name"],
                each["gpu"],
                each["gpus_per_replica"],
                f"up to {each['replicas_max']}",
                ", ".join(each["regions"]),
                each["description"],
            )
            for each in tiers
        ],
        whole=("tier", "gpu", "gpus/replica", "replicas", "regions"),
    )


def model_table(models: list[Json]) -> Table:
    """Models, one a line."""
    return table(
        ("model", "download", "context", "tiers", "description"),
        [
            (
                each["id"],
                amount(each["size_bytes"]),
                f"{each['context_tokens']:,} tokens",
                "\n".join(each["tiers"]),
                each["description"],
            )
            for each in models
        ],
        whole=("model", "download", "context", "tiers"),
    )
