"""Worker processes under a parent that does nothing else: starts them, starts them again, passes on the end."""

from __future__ import annotations

import ctypes
import gc
import logging
import os
import signal
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from libs.common.events.event import Owner
from libs.common.telemetry.logging import fields

log = logging.getLogger(__name__)

HEARD: Final = frozenset({signal.SIGCHLD, signal.SIGTERM, signal.SIGINT})
RESTART_FIRST_S: Final = 0.1
RESTART_MAX_S: Final = 5.0
STEADY_S: Final = 10.0  # Who lived that long is started again at once.
LOOK_S: Final = 1.0
WRONG: Final = 2  # A worker that can't start as it is configured: another try would not help.
PR_SET_PDEATHSIG: Final = 1


@dataclass(slots=True)
class _Worker:
    pid: int = 0
    started_s: float = 0.0
    start_at_s: float = 0.0
    delay_s: float = RESTART_FIRST_S


class Supervisor:
    """Keeps ``count`` workers alive. ``work(number)`` is a worker; ``buried(number)`` is called when one has died.

    Called from a process without threads: workers are forked, so what is imported is in memory once.
    """

    def __init__(
        self, count: int, work: Callable[[int], int], *, buried: Callable[[int], None], end_within_s: float
    ) -> None:
        self._work = work
        self._buried = buried
        self._end_within_s = end_within_s
        self._workers = [_Worker() for _ in range(count)]
        self._code = 0

    def run(self) -> int:
        """Until SIGTERM or SIGINT and the end of every worker; or until one can't start. The process's exit code."""
        signal.pthread_sigmask(signal.SIG_BLOCK, HEARD)
        gc.freeze()  # Workers would copy every page whose objects their collector looks at.
        while True:
            self._start_due()
            heard = signal.sigtimedwait(HEARD, LOOK_S if all(each.pid for each in self._workers) else RESTART_FIRST_S)
            self._bury()
            if self._code or (heard is not None and heard.si_signo != signal.SIGCHLD):
                return self._end()

    def _start_due(self) -> None:
        for number, worker in enumerate(self._workers):
            now_s = time.monotonic()
            if not worker.pid and now_s >= worker.start_at_s:
                worker.started_s = now_s
                worker.pid = os.fork() or self._become(number)

    def _become(self, number: int) -> int:
        """In the child: be the worker, and never return."""
        code = 1
        try:
            ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)  # A parent that is killed takes us with it.
            signal.pthread_sigmask(signal.SIG_UNBLOCK, HEARD)
            code = self._work(number)
        except BaseException:
            traceback.print_exc()
        os._exit(code)

    def _bury(self) -> None:
        while (found := _ended()) is not None:
            pid, code = found
            number = next((number for number, each in enumerate(self._workers) if each.pid == pid), None)
            if number is None:
                continue
            worker = self._workers[number]
            worker.pid = 0
            self._buried(number)
            now_s = time.monotonic()
            is_steady = now_s - worker.started_s >= STEADY_S
            worker.delay_s = RESTART_FIRST_S if is_steady else min(2 * worker.delay_s, RESTART_MAX_S)
            worker.start_at_s = now_s + worker.delay_s
            if code == WRONG:
                self._code = WRONG
            log.warning(
                "worker ended",
                extra=fields(service=Owner.ROUTER, action=f"worker {number}", reason=f"exit code {code}"),
            )

    def _end(self) -> int:
        """Have all of them drain, at once; kill who does not end."""
        give_up_s = time.monotonic() + self._end_within_s
        for each in self._workers:
            if each.pid:
                os.kill(each.pid, signal.SIGTERM)
        while running := [each for each in self._workers if each.pid]:
            if time.monotonic() > give_up_s:
                for each in running:
                    os.kill(each.pid, signal.SIGKILL)
            signal.sigtimedwait({signal.SIGCHLD}, LOOK_S)
            while (found := _ended()) is not None:
                pid, code = found
                self._code = self._code or code
                for each in running:
                    each.pid = 0 if each.pid == pid else each.pid
        return self._code


def _ended() -> tuple[int, int] | None:
    """A child that has ended, and its exit code."""
    try:
        pid, status = os.waitpid(-1, os.WNOHANG)
    except ChildProcessError:
        return None
    return (pid, os.waitstatus_to_exitcode(status)) if pid else None
