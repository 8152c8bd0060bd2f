"""Ids repeat where they must, differ where they must, and fit where they go."""

from __future__ import annotations

import re
import uuid

from hypothesis import given
from hypothesis import strategies as st

from libs.common.ids import NAMESPACE, PARTITIONS, SystemEntropy, event_id, partition, short_id


def test_an_event_id_is_the_same_in_every_build() -> None:
    assert event_id("cause", "capacity-manager", 0) == "087b1bb6-12ba-5fcb-b2cd-81ea13ea68a7"


@given(st.text(), st.text(), st.integers(0, 9))
def test_an_event_id_is_a_uuid_that_depends_on_all_of_its_parts(cause: str, service: str, index: int) -> None:
    id = event_id(cause, service, index)

    assert id == str(uuid.uuid5(NAMESPACE, f"{cause}|{service}|{index}"))
    assert id == event_id(cause, service, index)
    assert len({id, event_id(f"{cause}x", service, index), event_id(cause, f"{service}x", index)}) == 3
    assert id != event_id(cause, service, index + 1)


@given(st.lists(st.text(), min_size=1, max_size=4))
def test_a_short_id_serves_as_a_kubernetes_name_and_a_subject_token(parts: list[str]) -> None:
    assert re.fullmatch(r"ep-[a-z2-7]{10}", short_id("ep", *parts))
    assert short_id("ep", *parts) == short_id("ep", *parts)
    assert short_id("ep", *parts) != short_id("ep", *parts, "more")


@given(st.text())
def test_a_partition_is_one_of_sixteen(key: str) -> None:
    assert re.fullmatch(r"p\d\d", partition(key))
    assert int(partition(key)[1:]) < PARTITIONS


def test_keys_spread_over_all_partitions() -> None:
    assert len({partition(f"ep-{number}") for number in range(1_000)}) == PARTITIONS


def test_entropy_gives_as_much_as_asked_for_and_never_the_same() -> None:
    first, second = SystemEntropy().token_bytes(32), SystemEntropy().token_bytes(32)

    assert len(first) == 32
    assert first != second
