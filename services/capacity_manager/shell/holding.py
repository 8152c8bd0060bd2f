"""``python -m services.capacity_manager.shell.holding``: who holds what. What `millrace capacity` runs, for operators.

Reads the service's database and the Platform, changes neither. One JSON object on standard output; 2: wrong settings.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import asdict
from typing import Any, Final, TypeVar

from pydantic import TypeAdapter

from libs.common import settings as reading
from libs.common.clock import SystemClock
from libs.common.errors import MillraceError, Unavailable
from libs.common.store.port import Store
from libs.common.store.sql import SqlStore
from services.capacity_manager.core.holdings import NodeClass, changes, holdings
from services.capacity_manager.core.orphans import is_stray
from services.capacity_manager.core.pools import POOL, Pool
from services.capacity_manager.core.state import CLAIM, LIVE, Claim
from services.capacity_manager.core.stocks import stocks
from services.capacity_manager.shell.platform import Platform, PlatformClient
from services.capacity_manager.shell.settings import Settings

EXIT_USAGE: Final = 2
PAGE: Final = 500  # Records read at once.
CLAIMS: Final = TypeAdapter(Claim)
POOLS: Final = TypeAdapter(Pool)
T = TypeVar("T")


def report(settings: Settings, change: Sequence[str]) -> dict[str, Any]:
    """Everything held, what the Platform offers, what is nobody's, and what a change of class would come to.

    Raises Unavailable if the database or the Platform does not answer.
    """
    client = PlatformClient(
        url=settings.platform_url, key_file=settings.platform_key_file, ca_file=settings.platform_ca_file
    )
    platform, store = Platform(client, installation=settings.installation), SqlStore(settings.database_url)
    with closing(store), closing(client):
        claims = list(_live(store, CLAIM, CLAIMS))
        held = stocks(_live(store, POOL, POOLS), claims, SystemClock().now_ms())
        classes = {each.name: each for each in platform.classes()}
        return {
            "holdings": [asdict(each) for each in holdings(claims, classes)],
            "stocks": [{**asdict(each), "hit_percent": each.hit_percent} for each in held],
            "classes": [asdict(each) for each in classes.values()],
            "orphans": [asdict(each) for each in _orphans(platform, claims, settings)],
            "changes": [asdict(each) for each in _changes(claims, classes, change, settings)],
        }


def main(argv: Sequence[str]) -> int:
    """Print the report."""
    parser = argparse.ArgumentParser(prog="holding", description=__doc__)
    parser.add_argument("--change", nargs=2, metavar=("FROM", "TO"), default=(), help="node types")
    args = parser.parse_args(argv)
    try:
        found = report(reading.read(Settings), args.change)
    except MillraceError as wrong:
        next_step = ": is it running? `millrace status` tells" if isinstance(wrong, Unavailable) else ""
        sys.stderr.write(f"{wrong}{next_step}\n")
        return EXIT_USAGE
    sys.stdout.write(json.dumps(found, indent=2) + "\n")
    return 0


def _live(store: Store, kind: str, state: TypeAdapter[T]) -> Iterator[T]:
    page = store.page(kind, scope=LIVE, limit=PAGE)
    while page:
        yield from (state.validate_json(each.state) for each in page)
        page = store.page(kind, scope=LIVE, after=page[-1].key, limit=PAGE)


def _orphans(platform: Platform, claims: Sequence[Claim], settings: Settings) -> list[Any]:
    followed = {each.id for each in claims if each.tenant_id}
    return [each for each in platform.survey().standing if is_stray(each, followed, settings.caution())]


def _changes(
    claims: Sequence[Claim], classes: dict[str, NodeClass], change: Sequence[str], settings: Settings
) -> tuple[Any, ...]:
    if not change:
        return ()
    old, new = change
    return changes(claims, classes, old=old, new=new, gpus_max=settings.gpus_per_tenant_max)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
