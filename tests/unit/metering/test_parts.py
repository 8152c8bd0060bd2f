"""Parts of what billing is told: by adapter and class of nodes, always adding up to their window."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import Final

import pytest
from pydantic import TypeAdapter

from libs.common.errors import Invalid
from libs.common.events.capacity import NodeJoined
from libs.common.events.endpoint import Stage
from libs.common.events.envelope import Envelope
from libs.common.events.usage import Meter, UsagePart, UsageRecorded
from libs.common.ids import event_id
from libs.common.runner import Runner
from services.metering.core.audit import Check
from services.metering.core.state import Window
from services.metering.core.telling import Totalled, decide_window
from services.metering.service import WINDOWS as WINDOW_KIND
from services.metering.shell.audit import WINDOW, audit
from tests.unit.metering.world import (
    ENDPOINT,
    ROOT,
    T0,
    WINDOWS,
    World,
    batch,
    envelope,
    released,
    requested,
    staged,
    usage,
)

KEY: Final = f"{ROOT}/requests/all/{T0}/millrace/ngram-1"
_WINDOW: Final = TypeAdapter(Window)


def asked(world: World, *adapters: str | None, boot_seq: int = 1) -> None:
    """Requests of the first window, each to this adapter or to the model itself."""
    reports = [
        usage(f"r{boot_seq}-{number}").model_copy(update={"adapter": adapter, "tenancy": "vnode"})
        for number, adapter in enumerate(adapters)
    ]
    world.hear(batch(reports, boot_seq=boot_seq))


def told(world: World, meter: Meter) -> list[UsageRecorded]:
    """What billing was told of one meter, in order."""
    return [each for each in world.told() if isinstance(each, UsageRecorded) and each.meter is meter]


def parts(*of: tuple[str, int]) -> tuple[UsagePart, ...]:
    """Parts by adapter."""
    return tuple(UsagePart(adapter=adapter, quantity=quantity) for adapter, quantity in of)


def totalled(quantity: int, *, revision: int = 1, of: tuple[UsagePart, ...] | None = None) -> Envelope:
    """What the reconciler found the first window's requests to be."""
    data = Totalled(
        key=KEY,
        root=ROOT,
        tenant_id="acme",
        project_id="main",
        endpoint_id=ENDPOINT,
        generation=1,
        model="millrace/ngram-1",
        tier="h100-dedicated",
        region="eu-1",
        meter=Meter.REQUESTS,
        account="",
        start_ms=T0,
        end_ms=T0 + 10_000,
        quantity=quantity,
        revision=revision,
        parts=of,
    )
    return Envelope(event_id(KEY, "window", revision), data, subject=KEY, time_ms=T0)


def test_a_window_says_how_much_of_it_each_adapter_answered() -> None:
    world = World()
    world.hear(requested())
    asked(world, None, "fin", "fin", "law")
    world.pass_time(20)

    (requests,) = told(world, Meter.REQUESTS)
    (prompts,) = told(world, Meter.PROMPT_TOKENS)
    assert {requests.tenancy, prompts.tenancy} == {"vnode"}
    assert (requests.quantity, requests.parts) == (4, parts(("", 1), ("fin", 2), ("law", 1)))
    assert (prompts.quantity, prompts.parts) == (40, parts(("", 10), ("fin", 20), ("law", 10)))
    assert audit(world.store, windows=WINDOWS) == ()


def test_a_window_of_the_model_alone_has_no_parts() -> None:
    world = World()
    world.hear(requested())
    asked(world, None, None)
    world.pass_time(20)

    assert [(each.quantity, each.parts) for each in told(world, Meter.REQUESTS)] == [(2, ())]


def test_a_late_request_to_an_adapter_tells_the_window_again_with_all_its_parts() -> None:
    world = World()
    world.hear(requested())
    asked(world, None, "fin")
    world.pass_time(20)

    asked(world, "fin", boot_seq=2)
    world.pass_time(5)

    assert [(each.revision, each.quantity, each.parts) for each in told(world, Meter.REQUESTS)] == [
        (1, 2, parts(("", 1), ("fin", 1))),
        (2, 3, parts(("", 1), ("fin", 2))),
    ]


def test_time_of_nodes_is_told_by_class_and_with_the_tenancy() -> None:
    world = World()
    cloud = NodeJoined(claim="n2", node_type="aws.gpu-l40s", gpu_count=1, at_ms=T0)
    metal = NodeJoined(claim="n1", node_type="metal3.gpu-h100", gpu_count=8, at_ms=T0)
    world.hear(requested(), staged(Stage.READY, since_ms=T0, sequence=2))
    world.hear(envelope(metal, sequence=1), envelope(cloud, sequence=2))
    world.clock.advance(5_000)
    world.hear(released("n1", at_ms=T0 + 5_000, sequence=3), released("n2", at_ms=T0 + 4_000, sequence=4))
    world.pass_time(20)

    by_class = Counter[str]()
    for each in told(world, Meter.GPU_MS):
        by_class.update({part.node_class: part.quantity for part in each.parts})
        assert sum(part.quantity for part in each.parts) == each.quantity
        assert each.tenancy == "tenant_cluster"
    assert by_class == {"metal3.gpu-h100": 40_000, "aws.gpu-l40s": 4_000}
    assert audit(world.store, windows=WINDOWS) == ()


def test_parts_that_move_are_told_though_their_sum_stays() -> None:
    first = decide_window(Window(KEY), totalled(3, of=parts(("fin", 3), ("law", 0))), T0).state
    same = decide_window(first, totalled(3, revision=2, of=parts(("", 0), ("fin", 3))), T0)
    moved = decide_window(first, totalled(3, revision=2, of=parts(("fin", 1), ("law", 2))), T0)

    assert first.parts == parts(("fin", 3))
    assert (same.state, same.events) == (first, ())
    assert moved.state.parts == parts(("fin", 1), ("law", 2))
    assert [(each.quantity, each.revision) for each in moved.events if isinstance(each, UsageRecorded)] == [(3, 2)]


def test_a_part_that_was_taken_back_beyond_what_there_was_is_refused() -> None:
    wrong = (UsagePart.model_construct(quantity=-1, adapter="fin", node_class=""), *parts(("law", 4)))

    with pytest.raises(Invalid, match="adds up to -1"):
        decide_window(Window(KEY), totalled(3, of=wrong), T0)


def test_a_window_that_was_told_without_parts_has_them_from_its_next_revision_on() -> None:
    world = World()
    world.hear(requested())
    asked(world, None, "fin")
    telling: Runner[Window] = Runner(WINDOW_KIND, store=world.store, clock=world.clock)
    telling.take(KEY, totalled(2))
    world.pass_time(20)
    assert [each.revision for each in told(world, Meter.REQUESTS)] == [1]
    assert audit(world.store, windows=WINDOWS) == ()

    asked(world, "fin", boot_seq=2)
    world.pass_time(20)

    assert told(world, Meter.REQUESTS)[-1].parts == parts(("", 1), ("fin", 2))
    assert audit(world.store, windows=WINDOWS) == ()


def test_the_audit_finds_requests_that_were_told_of_another_adapter() -> None:
    world = World()
    world.hear(requested())
    asked(world, None, "fin", "law")
    world.pass_time(20)
    stored = world.store.records[WINDOW, KEY]
    spoiled = replace(_WINDOW.validate_json(stored.state), parts=parts(("", 1), ("fin", 2)))
    world.store.records[WINDOW, KEY] = replace(stored, state=_WINDOW.dump_json(spoiled))

    found = audit(world.store, windows=WINDOWS)

    assert [(each.check, each.what, each.ledger, each.other) for each in found] == [
        (Check.WINDOW, f"{KEY} of fin", 1, 2),
        (Check.WINDOW, f"{KEY} of law", 1, 0),
    ]
