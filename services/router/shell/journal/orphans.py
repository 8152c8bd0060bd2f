"""The journals of workers that there are no longer, because there are fewer now: their rows are billed by us."""

from __future__ import annotations

import logging
import re
from pathlib import Path
from typing import Final

from libs.common.errors import Rejected
from libs.common.telemetry.logging import fields
from services.router.shell.journal.log import LogUsageJournal
from services.router.shell.journal.store import read_rows

log = logging.getLogger(__name__)

BATCH: Final = 1000


def adopt(journal: LogUsageJournal, usage_db: str, *, workers: int) -> int:
    """Take over what the journals of numbers from ``workers`` on hold; returns how many rows that were."""
    found, own = 0, Path(usage_db)
    for path in sorted(own.parent.glob(f"{own.name}.w*")):
        number = re.fullmatch(rf"{re.escape(own.name)}\.w(\d+)", path.name)
        if number is not None and int(number.group(1)) >= workers:
            found += _take_over(journal, path)
    return found


def _take_over(journal: LogUsageJournal, path: Path) -> int:
    try:
        orphan = LogUsageJournal(str(path))
    except Rejected:
        log.warning("a journal of a worker too many is in use", extra=fields(reason=path.name))
        return 0
    orphan.recover()
    found = 0
    while rows := read_rows(orphan.unconfirmed(sent_before_ms=2**62, limit=BATCH)):
        journal.adopt(rows)  # On disk, before it leaves the other.
        found += orphan.confirm([each.request_id for each in rows])
    orphan.close()
    for each in path.parent.glob(f"{path.name}*"):
        each.unlink()
    return found
