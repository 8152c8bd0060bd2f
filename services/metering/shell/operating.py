"""``python -m services.metering <verb>``: what an operator asks of the ledger by hand. One JSON document a line."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from libs.common.errors import Invalid, MillraceError
from libs.common.service import Service
from services.metering.core.accounts import Flaw
from services.metering.shell.audit import audit
from services.metering.shell.closing import Closing
from services.metering.shell.export_worker import exports_of
from services.metering.shell.ports import Ports
from services.metering.shell.reconciling import claims_in, findings
from services.metering.shell.redriving import Redriving
from services.metering.shell.settings import Settings

EXIT_DIFFERS: Final = 1


@dataclass(frozen=True, slots=True)
class Desk:
    """What an operator works on; `service` joins it, for the verbs that need it."""

    settings: Settings
    ports: Ports
    service: Callable[[], Service]

    @property
    def closing(self) -> Closing:
        """Periods."""
        return Closing(self.ports.store, self.ports.clock, late_ms=self.settings.late_ms)

    @property
    def redriving(self) -> Redriving:
        """Parked input."""
        return Redriving(self.service(), self.ports.store, self.ports.clock)


def operate(arguments: Sequence[str], desk: Desk) -> int:
    """Do what was asked; 1 if something differs or stays as it was. Raises MillraceError for what can't be done."""
    asked = _parser().parse_args(arguments)
    return VERBS[asked.verb](asked, desk)


def _audit(_asked: argparse.Namespace, desk: Desk) -> int:
    """Write every difference that the whole ledger has; windows that wait to be told are among them."""
    desk.service()  # It refuses windows of another size, in which everything would differ.
    differences = audit(desk.ports.store, windows=desk.ports.windows)
    for each in differences:
        sys.stdout.write(f"{each}\n")
    sys.stdout.write(f"{len(differences)} differences\n")
    return EXIT_DIFFERS if differences else 0


def _close(asked: argparse.Namespace, desk: Desk) -> int:
    closing = desk.closing
    if asked.dry_run:
        for tenant, lines in closing.preview(asked.period):
            _say({"tenant": tenant, "lines": len(lines), "corrections": sum(bool(each.corrects) for each in lines)})
        return 0
    for each in closing.close(asked.period):
        corrections = sum(bool(line.corrects) for line in each.lines)
        _say({"statement": each.key, "lines": len(each.lines), "corrections": corrections, "digest": each.digest})
    _say({"closed": asked.period})
    return 0


def _statements(asked: argparse.Namespace, desk: Desk) -> int:
    closing = desk.closing
    for each in closing.statements(asked.tenant):
        if asked.period in (None, each.period):
            _say({**asdict(each)})
    broken = closing.broken()
    for key in broken:
        _say({"broken": key, "repair": "restore it from a backup: it is not what was stated"})
    return EXIT_DIFFERS if broken else 0


def _parked(asked: argparse.Namespace, desk: Desk) -> int:
    found = list(desk.redriving.parked(asked.flaw))
    for each in found:
        _say({"parked": each.id, "at_ms": each.at_ms, "data": json.loads(each.data)})
    return EXIT_DIFFERS if found else 0


def _redrive(asked: argparse.Namespace, desk: Desk) -> int:
    if not asked.by.strip():
        raise Invalid("say who asks with --by: it is written into the ledger")
    outcomes = desk.redriving.redrive(by=asked.by, flaw=asked.flaw)
    for each in outcomes:
        _say({"parked": each.parked, "still": each.still} if each.still else {"parked": each.parked, "entered": True})
    return EXIT_DIFFERS if any(each.still for each in outcomes) else 0


def _reconcile(asked: argparse.Namespace, desk: Desk) -> int:
    """Write every difference with its cause and repair; 1 if there is one that will not be gone by itself."""
    claims = None
    if asked.claims is not None:
        claims = claims_in(sys.stdin.read() if asked.claims == "-" else Path(asked.claims).read_text())
    ports = desk.ports
    found = findings(ports, desk.closing, exports_of(desk.settings, ports.store, ports.clock), claims)
    for each in found:
        _say(asdict(each))
    lasting = sum(not each.is_passing for each in found)
    _say({"differences": lasting, "passing": len(found) - lasting, "provider": claims is not None})
    return EXIT_DIFFERS if lasting else 0


Verb = Callable[[argparse.Namespace, Desk], int]
VERBS: Final[Mapping[str, Verb]] = {
    "audit": _audit,
    "close": _close,
    "statements": _statements,
    "parked": _parked,
    "redrive": _redrive,
    "reconcile": _reconcile,
}


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> object:  # type: ignore[override]  # Ours does not return either.
        raise MillraceError(f"{message}; one of {', '.join(VERBS)}, or nothing to serve")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="python -m services.metering", description=__doc__)
    verbs = parser.add_subparsers(dest="verb", required=True)
    verbs.add_parser("audit", help="prove the whole ledger")
    close = verbs.add_parser("close", help="close a period after its late window: what it stated stays")
    close.add_argument("period", help="a month like 2026-11 or a day like 2026-11-28, of UTC")
    close.add_argument("--dry-run", action="store_true", help="write what would be stated; change nothing")
    statements = verbs.add_parser("statements", help="what closed periods stated, and whether it is still that")
    statements.add_argument("--tenant")
    statements.add_argument("--period")
    reconcile = verbs.add_parser("reconcile", help="provider, ledger, what was told and what was accepted")
    reconcile.add_argument("--claims", help="the provider's: kubectl get nodeclaims -A -o json, a file or -")
    for name, does in (
        ("parked", "what could not be taken, and why"),
        ("redrive", "enter it, as far as it can be now"),
    ):
        verb = verbs.add_parser(name, help=does)
        verb.add_argument("--flaw", type=Flaw, choices=list(Flaw))
        if name == "redrive":
            verb.add_argument("--by", required=True, help="who asks; it is written into the ledger")
    return parser


def _say(what: Mapping[str, object]) -> None:
    sys.stdout.write(json.dumps(what) + "\n")
