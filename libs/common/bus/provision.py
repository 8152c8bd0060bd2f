"""Makes streams, buckets and consumers what `streams` declares them to be. The only one that does; services only bind.

    python -m libs.common.bus.provision --nats URL [--monitor URL] [--replicas N] [--check]

Prints one line per difference. Ends with 0 when all is as declared (or was made so), with 1 when `--check` found a
difference, with 2 when it can't or must not be made so.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
import urllib.request
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

import nats
from nats.aio.client import Client
from nats.errors import Error
from nats.js import JetStreamContext
from nats.js.api import (
    AckPolicy,
    ConsumerConfig,
    DeliverPolicy,
    DiscardPolicy,
    ReplayPolicy,
    RetentionPolicy,
    StorageType,
    StreamConfig,
)
from nats.js.errors import NotFoundError

from libs.common.bus.server import VERSION_MIN
from libs.common.bus.streams import BUCKETS, CONSUMERS, DEDUPE_S, STREAMS, Bucket, Consumer, Retention, Stream
from libs.common.errors import Invalid, MillraceError, Unavailable

CONNECT_S: Final = 5.0  # A server that is just being started is there by then.
REQUEST_S: Final = 10.0  # Making a stream on a cluster elects a leader first.
VALUE_MAX: Final = 256 * 1024  # Bytes of a bucket's value: the same as a message of any other stream.
MAX_WAITING: Final = 512  # Pulls that may wait at once: every process of a service keeps one open.

# What a server refuses to change: the difference needs a new thing beside the old one, and people to move over.
STREAM_FIXED: Final = frozenset({"storage", "retention"})
CONSUMER_FIXED: Final = frozenset({"deliver_policy", "ack_policy", "replay_policy"})
ONE_WAY: Final = frozenset({"deny_delete", "deny_purge"})  # May be switched on, never off again.


@dataclass(frozen=True, slots=True)
class Wanted:
    """Everything that should be there."""

    streams: Sequence[Stream] = STREAMS
    buckets: Sequence[Bucket] = BUCKETS
    consumers: Sequence[Consumer] = CONSUMERS
    replicas: int = 1


@dataclass(frozen=True, slots=True)
class Difference:
    """What is not as declared: a missing thing, or one with other settings (`was` and `to` by name)."""

    thing: str
    was: Mapping[str, object] = field(default_factory=dict)
    to: Mapping[str, object] = field(default_factory=dict)
    is_refused: bool = False

    def __str__(self) -> str:
        """One line for people."""
        if not self.to:
            return f"{self.thing}: missing"
        changes = ", ".join(f"{name} is {self.was[name]}, declared {self.to[name]}" for name in sorted(self.to))
        return f"{self.thing}: {changes}"


async def provision(url: str, *, monitor_url: str = "", wanted: Wanted | None = None, check: bool = False) -> list[str]:
    """Make the broker what is declared, or with ``check`` only look; returns one line per difference there was.

    Raises Unavailable without a broker; Invalid for a broker that is too old or not durable, and for a change that a
    broker can't make. Nothing is changed then.
    """
    wanted = wanted or Wanted()
    try:
        connection = await asyncio.wait_for(
            nats.connect(url, name="provision", max_reconnect_attempts=-1, error_cb=_ignore), CONNECT_S
        )
    except (Error, TimeoutError, OSError) as lost:
        raise Unavailable(f"no NATS server answers at {url.rsplit('@', 1)[-1]}: start it ({lost!r})") from lost
    try:
        _refuse_unfit(connection, monitor_url)
        stream = connection.jetstream(timeout=REQUEST_S)
        differences = [each for config in _stream_configs(wanted) if (each := await _stream_difference(stream, config))]
        for consumer in wanted.consumers:
            differences += [each] if (each := await _consumer_difference(stream, consumer, wanted.replicas)) else []
        refused = [each for each in differences if each.is_refused]
        if refused and not check:
            what = "; ".join(map(str, refused))
            raise Invalid(f"a broker can't change this in place: {what}: declare it under a new name, or delete it")
        if differences and not check:
            await _apply(stream, wanted)
        return [str(each) for each in differences]
    except (Error, TimeoutError, OSError) as refusal:
        raise Unavailable(f"the broker refused or went away: {refusal}") from refusal
    finally:
        await connection.close()


def stream_config(stream: Stream, replicas: int = 1) -> StreamConfig:
    """The whole configuration of a stream: on disk, refusing rather than forgetting, its past not to be edited."""
    is_record = stream.retention is Retention.LIMITS
    return StreamConfig(
        name=stream.name,
        subjects=list(stream.subjects),
        retention=RetentionPolicy(stream.retention),
        storage=StorageType.FILE,
        num_replicas=replicas,
        max_age=stream.max_age_s,
        max_bytes=stream.max_bytes,
        max_msg_size=stream.max_msg_size_bytes,
        max_msgs_per_subject=stream.max_msgs_per_subject,
        discard=DiscardPolicy.NEW,
        discard_new_per_subject=stream.max_msgs_per_subject > 0,
        duplicate_window=stream.dedupe_s,
        allow_direct=True,
        # Not for commands: an operator must be able to take one back.
        deny_delete=is_record,
        deny_purge=is_record,
    )


def bucket_config(bucket: Bucket, replicas: int = 1) -> StreamConfig:
    """The whole configuration of a key-value bucket, which is a stream.

    Purging stays allowed: it is how a key and its history are removed, and a broker denies roll-ups without it.
    """
    return StreamConfig(
        name=f"KV_{bucket.name}",
        subjects=[f"$KV.{bucket.name}.>"],
        retention=RetentionPolicy.LIMITS,
        storage=StorageType.FILE,
        num_replicas=replicas,
        max_age=0,
        max_bytes=bucket.max_bytes,
        max_msg_size=VALUE_MAX,
        max_msgs_per_subject=bucket.history,
        discard=DiscardPolicy.NEW,
        duplicate_window=DEDUPE_S,
        allow_direct=True,
        allow_rollup_hdrs=True,
        deny_delete=True,
        deny_purge=False,
    )


def consumer_config(consumer: Consumer, replicas: int = 1) -> ConsumerConfig:
    """The whole configuration of a durable pull consumer."""
    return ConsumerConfig(
        name=consumer.name,
        durable_name=consumer.name,
        filter_subjects=list(consumer.filter_subjects),
        deliver_policy=DeliverPolicy.ALL,
        ack_policy=AckPolicy.EXPLICIT,
        replay_policy=ReplayPolicy.INSTANT,
        ack_wait=consumer.ack_wait_s,
        max_deliver=consumer.max_deliver,
        max_ack_pending=consumer.max_ack_pending,
        max_waiting=MAX_WAITING,
        num_replicas=replicas,
    )


def _stream_configs(wanted: Wanted) -> list[StreamConfig]:
    return [
        *(stream_config(each, wanted.replicas) for each in wanted.streams),
        *(bucket_config(each, wanted.replicas) for each in wanted.buckets),
    ]


async def _apply(stream: JetStreamContext, wanted: Wanted) -> None:
    for config in _stream_configs(wanted):
        difference = await _stream_difference(stream, config)
        if difference is not None:
            await (stream.update_stream(config) if difference.to else stream.add_stream(config))
    for consumer in wanted.consumers:
        if await _consumer_difference(stream, consumer, wanted.replicas) is not None:
            await stream.add_consumer(consumer.stream, consumer_config(consumer, wanted.replicas))


async def _stream_difference(stream: JetStreamContext, config: StreamConfig) -> Difference | None:
    thing = f"stream {config.name}"
    try:
        info = await stream.stream_info(str(config.name))
    except NotFoundError:
        return Difference(thing)
    return _compare(thing, config, info.config, STREAM_FIXED)


async def _consumer_difference(stream: JetStreamContext, consumer: Consumer, replicas: int) -> Difference | None:
    thing = f"consumer {consumer.name} on {consumer.stream}"
    try:
        info = await stream.consumer_info(consumer.stream, consumer.name)
    except NotFoundError:
        return Difference(thing)
    there: ConsumerConfig = info.config
    if there.filter_subject:  # The server's way to say it when there is but one.
        there = there.evolve(filter_subjects=[there.filter_subject], filter_subject=None)
    return _compare(thing, consumer_config(consumer, replicas), there, CONSUMER_FIXED)


def _compare(
    thing: str, wanted: StreamConfig | ConsumerConfig, there: StreamConfig | ConsumerConfig, fixed: frozenset[str]
) -> Difference | None:
    was: dict[str, object] = {}
    to: dict[str, object] = {}
    for name in wanted.as_dict():
        declared, found = _plain(getattr(wanted, name)), _plain(getattr(there, name))
        if declared != found:
            was[name], to[name] = found, declared
    if not to:
        return None
    goes_back = any(name in ONE_WAY and not value for name, value in to.items())
    return Difference(thing, was, to, is_refused=goes_back or not fixed.isdisjoint(to))


def _plain(value: object) -> object:
    """A setting in the one form in which it compares: unset is zero, choices are their names, sets are sorted."""
    if value is None or value is False:
        return 0
    if isinstance(value, list):
        return sorted(value)
    return getattr(value, "value", value)


def _refuse_unfit(connection: Client, monitor_url: str) -> None:
    version = connection.connected_server_version
    if (version.major, version.minor) < VERSION_MIN:
        wanted = ".".join(map(str, VERSION_MIN))
        raise Invalid(f"nats-server {version.major}.{version.minor} is too old: run {wanted} or newer")
    if not monitor_url:
        return
    try:
        with urllib.request.urlopen(f"{monitor_url}/varz", timeout=CONNECT_S) as answer:  # noqa: S310 - operator's URL.
            said = json.load(answer)
    except (OSError, ValueError) as lost:
        raise Unavailable(f"no monitor page at {monitor_url}/varz: correct --monitor ({lost})") from lost
    if not said.get("jetstream", {}).get("config", {}).get("sync_always"):
        raise Invalid("the server acknowledges before the disk has it: set `sync_interval: always` in its jetstream {}")


async def _ignore(_error: Exception) -> None:
    """An attempt that failed is followed by another; what counts is raised."""


def _arguments(given: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="provision", description="Make the broker what streams.py declares.")
    parser.add_argument("--nats", default=os.environ.get("MILLRACE_NATS_URL", "nats://127.0.0.1:8422"))
    parser.add_argument("--monitor", default="", help="http://host:port, to check that the server syncs always")
    parser.add_argument("--replicas", type=int, default=1, help="1 on one machine, 3 in a cluster")
    parser.add_argument("--check", action="store_true", help="change nothing; end with 1 if anything differs")
    return parser.parse_args(given)


def main(given: Sequence[str]) -> int:
    """The command."""
    said = _arguments(given)
    wanted = Wanted(replicas=said.replicas)
    try:
        lines = asyncio.run(provision(said.nats, monitor_url=said.monitor, wanted=wanted, check=said.check))
    except MillraceError as refusal:
        sys.stderr.write(f"provision: {refusal}\n")
        return 2
    for line in lines:
        sys.stdout.write(f"{line}{'' if said.check else ' -> done'}\n")
    if not said.monitor:
        sys.stdout.write("not checked: sync_interval (give --monitor)\n")
    return 1 if said.check and lines else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
