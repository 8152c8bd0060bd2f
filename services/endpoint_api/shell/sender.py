"""Sends one webhook message: to an address that was looked up once and checked, and no further.

Nothing of the answer but its status is read. Redirects are not followed, names are not looked up again.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
import ssl
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Final, Protocol

from services.endpoint_api.core.addresses import Target, may_reach, target_of
from services.endpoint_api.core.refusal import FieldRefused

DEADLINE_S: Final = 15.0  # Of the whole attempt, from the look-up to the status.
HEAD_BYTES_MAX: Final = 16 * 1024
INTERIM_MAX: Final = 5  # 1xx answers before the real one.
ADDRESSES_MAX: Final = 4  # Tried of one name.

Resolve = Callable[[str, int], Awaitable[Sequence[str]]]


@dataclass(frozen=True, slots=True)
class Sent:
    """How an attempt ended: the status, or 0 and why there was none."""

    status: int
    error: str = ""


class Sender(Protocol):
    """A way to receivers."""

    async def send(self, url: str, headers: Mapping[str, str], body: bytes) -> Sent:
        """POST once. Never raises for what a receiver or its name does."""


class Refused(Exception):
    """The receiver's address is none that we send to."""


async def look_up(host: str, port: int) -> Sequence[str]:
    """All addresses of a name, by the system."""
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(each[4][0]) for each in found))


@cache
def public_tls() -> ssl.SSLContext:
    """TLS with the authorities that this machine trusts; reading them takes 20 ms, so a process does it once."""
    return ssl.create_default_context()


class HttpSender:
    """Over HTTP/1.1, one connection a message."""

    def __init__(
        self,
        *,
        allow_local: bool = False,
        resolve: Resolve = look_up,
        deadline_s: float = DEADLINE_S,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self._allow_local = allow_local
        self._resolve = resolve
        self._deadline_s = deadline_s
        self._tls = tls or public_tls()

    async def send(self, url: str, headers: Mapping[str, str], body: bytes) -> Sent:
        """POST once."""
        try:
            target = target_of(url, allow_local=self._allow_local)
            async with asyncio.timeout(self._deadline_s):
                return Sent(await self._post(target, headers, body))
        except TimeoutError:
            return Sent(0, f"no answer within {self._deadline_s:g} s")
        except (FieldRefused, Refused):
            return Sent(0, "its address is not on the public internet")
        except ssl.SSLError:
            return Sent(0, "no secure connection: its certificate or TLS is not good")
        except socket.gaierror:
            return Sent(0, "its name has no address")
        except (asyncio.IncompleteReadError, asyncio.LimitOverrunError, ValueError):
            return Sent(0, "what it answered is not HTTP")
        except OSError:
            return Sent(0, "no connection")

    async def _post(self, target: Target, headers: Mapping[str, str], body: bytes) -> int:
        reader, writer = await self._connect(target)
        try:
            lines = {
                "host": target.authority,
                "user-agent": "millrace-webhooks/1",
                "content-length": str(len(body)),
                "connection": "close",
                **headers,
            }
            head = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
            writer.write(f"POST {target.path} HTTP/1.1\r\n{head}\r\n".encode("ascii") + body)
            await writer.drain()
            return await _status(reader)
        finally:
            writer.transport.abort()  # What else it may say is not read.

    async def _connect(self, target: Target) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """A connection to one of the addresses that were checked; the name is used for TLS only."""
        addresses = [ipaddress.ip_address(each) for each in await self._resolve(target.host, target.port)]
        if not addresses or not all(may_reach(each, allow_local=self._allow_local) for each in addresses):
            raise Refused  # One private address among public ones is an attack, not an accident.
        failed: OSError = OSError("no address")
        for address in addresses[:ADDRESSES_MAX]:
            try:
                return await asyncio.open_connection(
                    str(address),
                    target.port,
                    ssl=self._tls if target.is_tls else None,
                    server_hostname=target.host if target.is_tls else None,
                    limit=HEAD_BYTES_MAX,
                )
            except ssl.SSLError:
                raise
            except OSError as error:
                failed = error
        raise failed


async def _status(reader: asyncio.StreamReader) -> int:
    for _ in range(INTERIM_MAX):
        head = await reader.readuntil(b"\r\n\r\n")
        version, _space, rest = head.partition(b"\r\n")[0].partition(b" ")
        status = int(rest[:3])
        if not version.startswith(b"HTTP/1.") or not 100 <= status <= 599:
            raise ValueError("not HTTP")
        if status >= 200:
            return status
    raise ValueError("only interim answers")
