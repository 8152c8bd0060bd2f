"""``python -m services.runtime_deployer.shell.cached``: every cache of models. What `millrace caches` runs.

Reads the service's database and changes nothing. One JSON object on standard output; 2: wrong settings.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import closing
from datetime import UTC, datetime
from typing import Any, Final

from pydantic import TypeAdapter

from libs.common import settings as reading
from libs.common.errors import MillraceError
from libs.common.store.sql import SqlStore
from services.runtime_deployer.core.caches import CACHE, THERE, Cache
from services.runtime_deployer.shell.tracing import EXIT_USAGE, Settings

STATE: Final = TypeAdapter(Cache)
PAGE: Final = 500


def listed(store: SqlStore) -> Iterator[dict[str, Any]]:
    """The caches whose node or claim is there, by key."""
    page = store.page(CACHE, scope=THERE, limit=PAGE)
    while page:
        yield from (_cache(STATE.validate_json(each.state)) for each in page)
        page = store.page(CACHE, scope=THERE, after=page[-1].key, limit=PAGE)


def _cache(cache: Cache) -> dict[str, Any]:
    place = cache.place
    return {
        "id": cache.key,
        **(place.model_dump(mode="json") if place is not None else {}),
        "capacity_bytes": cache.capacity_bytes,
        "used_bytes": sum(each.size_bytes for each in cache.models),
        "hits": cache.hits,
        "misses": cache.misses,
        "evictions": cache.evictions,
        "delay": cache.delay,
        "models": [
            {
                "digest": each.digest,
                "size_bytes": each.size_bytes,
                "used_at": datetime.fromtimestamp(each.used_ms / 1000, UTC).isoformat(timespec="seconds"),
                "hits": each.hits,
                "kept_for": each.endpoint_id,
                "pods": [user.pod for user in cache.users if user.digest == each.digest],
            }
            for each in cache.models
        ],
    }


def main(argv: Sequence[str]) -> int:
    """Print them."""
    argparse.ArgumentParser(prog="cached", description=__doc__).parse_args(argv)
    try:
        with closing(SqlStore(reading.read(Settings).database_url)) as store:
            found = list(listed(store))
    except MillraceError as wrong:
        sys.stderr.write(f"{wrong}\n")
        return EXIT_USAGE
    sys.stdout.write(json.dumps({"caches": found}, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
