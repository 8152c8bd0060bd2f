"""An operator reads a stream: whole and in order, or told that it is not whole."""

from __future__ import annotations

import asyncio
from contextlib import aclosing

import pytest

from libs.common.bus.server import NatsServer
from libs.common.bus.streams import EVT
from libs.common.bus.tail import BATCH, tail
from libs.common.clock import SystemClock
from libs.common.errors import Invalid, Unavailable
from libs.common.units import HOUR_MS
from tests.contract.bus_promises import PATIENCE_S, Hears, a_message, running
from tests.contract.nats_scene import a_bus
from tests.support.ports import free_port


async def published(broker: NatsServer, count: int) -> list[str]:
    """As many messages as asked for, in the stream; their ids."""
    messages = [a_message(f"m{place}") for place in range(count)]
    async with running(a_bus(broker, Hears())) as bus:
        assert await bus.publish(messages) == count
    return [each.id for each in messages]


async def test_more_than_a_batch_is_read_in_order_and_ends(broker: NatsServer) -> None:
    ids = await published(broker, BATCH + 5)

    assert [each.message.id async for each in tail(broker.url, stream=EVT)] == ids
    assert [each.sequence async for each in tail(broker.url, stream=EVT, from_sequence=BATCH)] == list(
        range(BATCH, BATCH + 6)
    )


async def test_it_begins_with_what_came_from_a_time_on(broker: NatsServer) -> None:
    first = await published(broker, 2)
    now_ms = SystemClock().now_ms()

    assert [each.message.id async for each in tail(broker.url, stream=EVT, from_ms=now_ms - HOUR_MS)] == first
    assert [each async for each in tail(broker.url, stream=EVT, from_ms=now_ms + HOUR_MS)] == []


async def test_where_nobody_answers_that_is_all_that_is_said(caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(Unavailable) as nobody:
        await anext(tail(f"nats://us:secret@127.0.0.1:{free_port()}", stream=EVT))

    assert str(nobody.value).startswith("no bus at 127.0.0.1:")
    assert "secret" not in str(nobody.value)
    assert caplog.text == ""


async def test_a_stream_that_there_is_not_is_said_without_the_password(broker: NatsServer) -> None:
    with pytest.raises(Unavailable, match="no stream MR_NONE") as missing:
        await anext(tail(broker.url.replace("//", "//us:secret@"), stream="MR_NONE"))

    assert "secret" not in str(missing.value)


async def test_a_place_that_there_is_not_is_the_askers_mistake(broker: NatsServer) -> None:
    with pytest.raises(Invalid, match="does not read"):
        _ = [each async for each in tail(broker.url, stream=EVT, from_sequence=0)]


async def test_nothing_is_read_where_no_subject_fits(broker: NatsServer) -> None:
    await published(broker, 2)

    assert [each async for each in tail(broker.url, stream=EVT, subject="mr.v1.evt.nobody.>")] == []


async def test_a_follower_hears_what_comes_later(broker: NatsServer) -> None:
    first = await published(broker, 1)
    reading = tail(broker.url, stream=EVT, follow=True)
    async with asyncio.timeout(PATIENCE_S), aclosing(reading):
        assert (await anext(reading)).message.id == first[0]
        async with running(a_bus(broker, Hears())) as bus:
            await bus.publish([a_message("later")])
        assert (await anext(reading)).message.id == "later"


async def test_a_follower_outlasts_silence(broker: NatsServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """The client has two ways of saying that nothing came; which one is a race, so many short waits meet both."""
    monkeypatch.setattr("libs.common.bus.tail.POLL_S", 0.02)
    await published(broker, 1)
    reading = tail(broker.url, stream=EVT, follow=True)
    async with asyncio.timeout(PATIENCE_S), aclosing(reading):
        await anext(reading)
        later = asyncio.create_task(anext(reading))
        await asyncio.sleep(3)
        assert not later.done()
        async with running(a_bus(broker, Hears())) as bus:
            await bus.publish([a_message("later")])
        assert (await later).message.id == "later"


async def test_a_broker_that_dies_half_way_is_not_taken_for_the_end(broker: NatsServer) -> None:
    await published(broker, 2 * BATCH)
    reading = tail(broker.url, stream=EVT)
    await anext(reading)
    await asyncio.to_thread(broker.kill)

    with pytest.raises(Unavailable):
        _ = [each async for each in reading]


async def test_an_unknown_stream_is_named(broker: NatsServer) -> None:
    with pytest.raises(Unavailable, match="MR_NOBODY"):
        _ = [each async for each in tail(broker.url, stream="MR_NOBODY")]
