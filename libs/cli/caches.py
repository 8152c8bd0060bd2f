"""`millrace caches`: which models lie where, what they take, for whom they are kept and who has them; for operators."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from rich.table import Table

from libs.cli.client import Json
from libs.cli.output import OUTPUT, Output, amount, console, moment, one_line_errors, show, table
from libs.cli.reports import reported
from libs.cli.trace import READ_S_MAX, environment

PROGRAM: Final = "services.runtime_deployer.shell.cached"
DIGEST_CHARS: Final = 19  # `sha256:` and 12 more, as `millrace trace` has it.


@one_line_errors
def caches(output: Output = OUTPUT) -> None:
    """Caches of models on nodes and volumes: what is in each, and how often it spared a download.

    Of the local profile, or of the service whose MILLRACE_ settings are in the environment. Nothing is changed.
    """
    found = told(environment())
    show(output, found, lambda: places(found["caches"]))
    if output is Output.TABLE and found["caches"]:
        console.print("", models(found["caches"]), sep="\n")


def told(env: Mapping[str, str]) -> Json:
    """What runtime-deployer, whose settings are in ``env``, has of its caches."""
    return reported(PROGRAM, env=env, within_s=READ_S_MAX, silent="runtime-deployer's records can't be read")


def places(found: list[Json]) -> Table | str:
    """The caches, one a line."""
    if not found:
        return "no cache yet: templates with `cache` or `claim` make one with their first replica"
    rows = [
        (
            _where(each),
            each["kind"],
            amount(each["used_bytes"]),
            amount(each["capacity_bytes"]) if each["capacity_bytes"] else "its disk",
            each["hits"],
            each["misses"],
            each["evictions"],
            each["delay"] or "-",
        )
        for each in found
    ]
    columns = ("cache", "kind", "holds", "of", "hits", "misses", "evicted", "trouble")
    return table(columns, rows, right=("holds", "of"), whole=("holds", "of"))


def models(found: list[Json]) -> Table:
    """What is in them, a line for each model."""
    rows = [
        (
            _where(cache),
            each["digest"][:DIGEST_CHARS],
            amount(each["size_bytes"]),
            moment(each["used_at"]),
            each["hits"],
            each["kept_for"] or "nobody",
            len(each["pods"]),
        )
        for cache in found
        for each in sorted(cache["models"], key=lambda each: str(each["used_at"]), reverse=True)
    ]
    columns = ("cache", "model", "size", "last used", "hits", "kept for", "pods")
    return table(columns, rows, right=("size",), whole=("model", "size", "last used"))


def _where(cache: Json) -> str:
    """By its name; with its cluster, where the name does not say that."""
    name, cluster = str(cache["name"]), str(cache["cluster"])
    return name if name.startswith(cluster) else f"{cluster}/{name}"
