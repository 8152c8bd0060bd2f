"""FastStream's client with two of its loops made patient: reconnecting and pulling.

A pull waits long, for a broker at rest should be left at rest. It dies with its connection without a word, so on a new
one the same is asked again.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from typing import TYPE_CHECKING, Any, Final

from faststream.nats import NatsBroker
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.errors import Error
from nats.js.client import JetStreamContext

if TYPE_CHECKING:
    from nats.aio.client import ErrorCallback

AWAY_S: Final = 0.1  # Between looks whether the broker is back.
FAILED_S: Final = 1.0  # After a pull that failed.
NS: Final = 1_000_000_000


class Broker(NatsBroker):
    """FastStream's broker, but an error of the connection is ours to judge.

    Theirs raises out of nats-py's reconnect loop for some of them ("authorization timeout"), which ends that loop: the
    client would never be back. It also logs a traceback for every attempt.
    """

    def _log_connection_broken(self, error_cb: ErrorCallback | None = None) -> ErrorCallback:
        assert error_cb is not None, "say what to do with errors"
        return error_cb

    async def _connect(self) -> Client:
        """Connect, and have subscribers pull patiently from their first pull on."""
        connection = await super()._connect()
        stream: JetStreamContext = self.config.connection_state.stream
        subscribe = stream.pull_subscribe
        self._pulls: list[PatientPull] = []

        async def patiently(*args: Any, **options: Any) -> PatientPull:  # noqa: ANN401  # Whatever theirs takes.
            self._pulls.append(pull := PatientPull(await subscribe(*args, **options), connection))
            return pull

        stream.pull_subscribe = patiently  # type: ignore[method-assign,assignment]
        return connection

    async def pull_again(self) -> None:
        """The connection is a new one: what was asked on the old one is asked again."""
        for each in self._pulls:
            await each.ask_again()


class PatientPull:
    """A pull subscription that waits while the broker is away, and never spins when a pull fails.

    FastStream pulls in a tight loop: in an outage its pulls would fill the buffer of what is sent on reconnect (and
    after some hours overflow it); with a closed connection or a missing consumer it would spin.
    """

    def __init__(self, pull: JetStreamContext.PullSubscription, connection: Client) -> None:
        self._pull = pull
        self._connection = connection
        self._asked: tuple[int, float] | None = None  # How many, and until when, while somebody waits for them.

    async def fetch(self, batch: int, timeout: float) -> list[Msg]:
        """What has arrived; nothing if there is nothing within ``timeout`` seconds or the pull failed."""
        began_s = time.monotonic()
        if not self._connection.is_connected:
            await asyncio.sleep(AWAY_S)
            return []
        self._asked = (batch, began_s + timeout)
        try:
            return await self._pull.fetch(batch, timeout=timeout)
        except (Error, TimeoutError, OSError):
            await asyncio.sleep(min(FAILED_S, max(0.0, began_s + timeout - time.monotonic())))
            return []
        finally:
            self._asked = None

    async def ask_again(self) -> None:
        """Ask for what somebody waits for; it comes where they wait."""
        if self._asked is None:
            return
        batch, until_s = self._asked
        left_ns = int((until_s - time.monotonic()) * NS)
        if left_ns > 0:
            asked = json.dumps({"batch": batch, "expires": left_ns}).encode()
            await self._connection.publish(self._pull._nms, asked, self._pull._deliver)

    async def unsubscribe(self) -> None:
        """Pull no more; a connection that is closed pulls no more by itself."""
        with contextlib.suppress(Error):
            await self._pull.unsubscribe()
