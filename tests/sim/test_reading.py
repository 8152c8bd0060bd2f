"""Reading a message once is reading it: the same event for all, and no event where there is none."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from libs.common.bus.streams import message_of
from libs.common.errors import Invalid
from libs.common.events.envelope import Envelope, from_wire
from libs.common.events.route import RouteWithdrawn
from libs.common.ids import EventId
from tests.sim.reading import Readings


def test_a_message_is_read_once_however_many_hear_it() -> None:
    told = [
        Envelope(EventId(each), RouteWithdrawn(streams_cut=cut), subject="ep-a", time_ms=1_000)
        for cut, each in enumerate(("first", "second"))
    ]
    first, second = map(message_of, told)
    count = 0

    def counting(headers: Mapping[str, str], body: bytes) -> Envelope:
        nonlocal count
        count += 1
        return from_wire(headers, body)

    read = Readings().by(counting)
    heard = [read(each.headers, each.body) for each in (first, second, first, second)]

    assert heard == told * 2
    assert count == 2


def test_a_message_that_can_t_be_read_is_refused_each_time() -> None:
    read = Readings().by(from_wire)

    for _ in range(2):
        with pytest.raises(Invalid):
            read({"ce-type": "route.published.v1", "ce-source": "/metering"}, b"{}")
