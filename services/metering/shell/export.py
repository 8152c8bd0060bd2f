"""``python -m services.metering.shell.export``: look at the exports to billing systems, and act on them by hand."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from typing import Final

from libs.common import settings as reading
from libs.common.clock import SystemClock
from libs.common.errors import Invalid, MillraceError
from libs.common.store.sql import SqlStore
from services.metering.shell.export_worker import exports_of
from services.metering.shell.exporting import Exporting
from services.metering.shell.routes import time_of
from services.metering.shell.settings import Settings

EXIT_WAITS: Final = 1
EXIT_WRONG: Final = 2


def main(arguments: Sequence[str]) -> int:
    """Do what was asked; 1 if something is parked or still waits, 2 if it can't be done."""
    asked = _parser().parse_args(arguments)
    try:
        settings = reading.read(Settings)
        clock = SystemClock()
        store = SqlStore(settings.database_url)
        return act(asked, exports_of(settings, store, clock))
    except MillraceError as wrong:
        sys.stderr.write(f"metering: {wrong}\n")
        return EXIT_WRONG


def act(asked: argparse.Namespace, exports: Sequence[Exporting]) -> int:
    """Do what was asked of these exports, or of the one that was named."""
    chosen = [each for each in exports if asked.export in (None, each.receiver.name)]
    if not chosen:
        raise Invalid("no such export is configured; MILLRACE_EXPORTS_FILE names the file")
    if asked.resolve is not None:
        resolve(chosen, asked.resolve, is_there=asked.is_there)
    if asked.dry_run:
        for each in chosen:
            dry_run(each, time_of(asked.since))
        return 0
    waits = False
    for each in chosen:
        change(each, asked)
        waits |= show(each, is_long=asked.status)
    return EXIT_WAITS if waits else 0


def change(export: Exporting, asked: argparse.Namespace) -> None:
    """Backfill, try again and send, as far as it was asked."""
    since_ms = time_of(asked.backfill)
    if since_ms is not None:
        export.backfill(since_ms)
    if asked.retry_parked:
        _say({"export": export.receiver.name, "tried_again": export.redrive()})
    if asked.once:
        while export.run():
            pass


def dry_run(export: Exporting, since_ms: int | None) -> None:
    """Write what would be sent of each window."""
    for key, what in export.would_send(export.receiver.since_ms if since_ms is None else since_ms):
        _say({"export": export.receiver.name, "window": key, "would_send": what})


def resolve(exports: Sequence[Exporting], key: str, *, is_there: bool | None) -> None:
    """Say what became of a sending whose outcome nobody knows."""
    if is_there is None or len(exports) != 1:
        raise Invalid("--resolve needs --export, and --as there or --as missing")
    exports[0].resolve(key, is_there=is_there)


def show(export: Exporting, *, is_long: bool) -> bool:
    """Write how an export stands; whether something waits or is parked."""
    status = export.status()
    if is_long:
        for each in export.parked():
            reason = {"reason": each.parked, "why": each.parked_detail, "wanted": each.quantity, "held": each.held}
            _say({"export": status.name, "parked": each.key, **reason})
    _say(
        {
            "export": status.name,
            "waiting": status.waiting,
            "parked": status.parked,
            "lag_s": status.lag_s,
            "reading": status.is_reading,
        }
    )
    return bool(status.waiting or status.parked or status.is_reading)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m services.metering.shell.export", description=__doc__)
    parser.add_argument("--export", help="only the export of this name")
    parser.add_argument("--status", action="store_true", help="list what is parked, and why")
    parser.add_argument("--dry-run", action="store_true", help="write what would be sent; change nothing")
    parser.add_argument("--since", help="with --dry-run: windows from this time on")
    parser.add_argument("--backfill", metavar="TIME", help="export all windows from this time on")
    parser.add_argument("--retry-parked", action="store_true", help="try again what is parked")
    parser.add_argument("--resolve", metavar="WINDOW", help="what was in doubt about this window is …")
    parser.add_argument("--as", dest="is_there", type=_is_there, help="there, or missing")
    parser.add_argument("--once", action="store_true", help="send now, until nothing moves any more")
    return parser


def _is_there(text: str) -> bool:
    if text not in ("there", "missing"):
        raise argparse.ArgumentTypeError("say there, or missing")
    return text == "there"


def _say(what: dict[str, object]) -> None:
    sys.stdout.write(json.dumps(what, default=str) + "\n")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
