"""The control of the chaos run: a router that takes the broker's ack for the ledger's. It loses; ours must not.

Run as ``python -m tests.integration.trusting_router`` in place of ``python -m services.router``.
"""

from __future__ import annotations

import sys

from services.router import __main__ as router
from services.router.shell.told.usage import UsageSender


class TrustingSender(UsageSender):
    """Forgets a batch as soon as the bus took it."""

    def stored(self) -> None:
        """The bus has it: what could go wrong?"""
        assert self._pending is not None
        request_ids = self._pending.request_ids
        super().stored()
        self._journal.confirm(request_ids)


if __name__ == "__main__":
    router.UsageSender = TrustingSender  # type: ignore[attr-defined]  # The bug, planted.
    sys.exit(router.main())
