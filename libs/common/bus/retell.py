"""Telling a broker again what it forgot: for the day that it loses its disk.

What a broker still knows stays as it is: an event goes out under the id that it had, which whoever took it knows, and a
key of a bucket is set only where there is none, so that an old value never hides a newer one.

    python -m libs.common.bus.retell     the part of one service, by its MILLRACE_ settings
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from typing import Final

import nats
from pydantic_settings import BaseSettings, SettingsConfigDict

from libs.common.bus.port import Message, is_of_bucket
from libs.common.bus.provision import provision
from libs.common.bus.tail import ignored, no_bus, place_of
from libs.common.errors import MillraceError, Unavailable
from libs.common.settings import read
from libs.common.store.port import Store
from libs.common.store.sql import SqlStore

PAGE: Final = 1000
PATIENCE_S: Final = 30.0  # A broker that syncs every write on a busy disk answers late, not never.
MSG_ID: Final = "Nats-Msg-Id"
EXPECTED: Final = "Nats-Expected-Last-Subject-Sequence"
IS_SET: Final = 10071  # The broker's code for a subject that has another last sequence than expected.


class Places(BaseSettings):
    """Of the settings of a service, what is needed here."""

    model_config = SettingsConfigDict(env_prefix="MILLRACE_", frozen=True, extra="ignore", hide_input_in_errors=True)

    nats_url: str
    database_url: str


@dataclass(frozen=True, slots=True)
class Retold:
    """How many messages the broker took, and how many it knew."""

    told: int = 0
    known: int = 0


def kept(store: Store) -> Iterator[Message]:
    """What a store can tell again: the events of some days in order, then what each key of a bucket was last set to."""
    after, last = 0, store.told(after=0, limit=1).last
    while after < last:
        page = store.told(after=after, limit=PAGE).messages
        yield from (each.message for each in page if not is_of_bucket(each.message))
        after = page[-1].position if page else last
    puts = store.puts(limit=PAGE)
    while puts:
        yield from puts
        puts = store.puts(after=puts[-1].subject, limit=PAGE)


async def retell(url: str, messages: Iterable[Message]) -> Retold:
    """Publish them in order. Raises Unavailable if the broker or a stream is not there; then begin again."""
    try:
        client = await nats.connect(url, max_reconnect_attempts=3, connect_timeout=2, error_cb=ignored)
    except (OSError, nats.errors.Error) as trouble:
        raise no_bus(url, trouble) from None
    publish, found = client.jetstream(timeout=PATIENCE_S).publish, Retold()
    try:
        for each in messages:
            headers = {**each.headers, MSG_ID: each.id, **({EXPECTED: "0"} if is_of_bucket(each) else {})}
            try:
                is_known = bool((await publish(each.subject, each.body, stream=each.stream, headers=headers)).duplicate)
            except nats.js.errors.APIError as refusal:
                if refusal.err_code != IS_SET:
                    raise
                is_known = True
            found = Retold(found.told + (not is_known), found.known + is_known)
        return found
    except nats.js.errors.NoStreamResponseError:
        raise Unavailable(
            f"streams are missing at {place_of(url)}: run `python -m libs.common.bus.provision`"
        ) from None
    except (TimeoutError, nats.errors.Error) as trouble:
        raise Unavailable(f"the bus at {place_of(url)} refused or went silent ({trouble!r}): run this again") from None
    finally:
        await client.close()


async def _told_again(database: str, url: str) -> Retold:
    await provision(url)
    store = SqlStore(database)
    try:
        return await retell(url, kept(store))
    finally:
        store.close()


def main() -> int:
    """Say as JSON how many messages were told again; 1 and one line if it can't be done."""
    try:
        settings = read(Places)
        found = asyncio.run(_told_again(settings.database_url, settings.nats_url))
    except MillraceError as trouble:
        sys.stderr.write(f"{trouble}\n")
        return 1
    sys.stdout.write(json.dumps(asdict(found)) + "\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
