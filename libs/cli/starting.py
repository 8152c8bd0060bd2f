"""`millrace` as a shell starts it.

All verbs take most of a second to load on a busy machine. Whoever has second thoughts meanwhile is no error: so they
are loaded, and what they leave is tidied up, where Ctrl-C ends the process in silence, as it does in a verb.
"""

from __future__ import annotations

import os
import signal
import sys
from typing import Final

EXIT_INTERRUPTED: Final = 130


def main() -> None:
    """The console script."""
    is_heard = signal.getsignal(signal.SIGINT) is signal.default_int_handler  # A shell may start us deaf to it.
    if is_heard:
        signal.signal(signal.SIGINT, _end)
    from libs.cli.app import app

    try:
        if is_heard:
            signal.signal(signal.SIGINT, signal.default_int_handler)
        app()
    except KeyboardInterrupt:
        sys.exit(EXIT_INTERRUPTED)
    finally:
        if is_heard:
            signal.signal(signal.SIGINT, _end)


def _end(*_: object) -> None:
    os._exit(EXIT_INTERRUPTED)
