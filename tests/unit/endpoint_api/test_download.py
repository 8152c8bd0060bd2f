"""How far a model's download is, as its endpoint's status says it; and a model that fits no GPU, at the door."""

from __future__ import annotations

import pytest

from libs.common.events import runtime
from libs.common.events.endpoint import Stage
from libs.common.events.envelope import Envelope
from services.endpoint_api.core.caller import Ask
from services.endpoint_api.core.causes import causes_of
from services.endpoint_api.core.explain import why
from services.endpoint_api.core.planning import PlanView
from services.endpoint_api.core.refusal import FieldRefused
from services.endpoint_api.core.state import Endpoint
from services.endpoint_api.core.status import OperationView
from tests.unit.endpoint_api.given import (
    CATALOGUE,
    NOW,
    PROGRESS,
    SPEC,
    Stand,
    a_caller,
    an_endpoint,
    tellings,
    told,
)
from tests.unit.endpoint_api.test_fit import LLAMA_8B, LLAMA_70B, SPEC_OF_IT, sold

UP_TO_IMAGE = PROGRESS[:6]
GIB = 1 << 30


def downloading(*more: Envelope) -> Endpoint:
    endpoint = an_endpoint(*tellings(UP_TO_IMAGE), *more)
    assert endpoint.stage is Stage.DOWNLOADING_MODEL
    return endpoint


def progressed(percent: int, *, sequence: int, generation: int = 1) -> Envelope:
    event = runtime.ModelProgressed(bytes_done=percent * GIB // 10, bytes_total=10 * GIB)
    return told(event, sequence=sequence, generation=generation)


def test_a_download_says_how_far_it_is() -> None:
    endpoint = downloading(progressed(45, sequence=7))

    assert why(endpoint).message == "45 % of the model is there, 4.5 of 10.0 GiB"
    (cause,) = causes_of(endpoint, CATALOGUE, NOW)
    assert (cause.message, cause.waiting_on) == (why(endpoint).message, "runtime-deployer")


def test_an_older_word_changes_nothing() -> None:
    endpoint = downloading(progressed(45, sequence=9), progressed(40, sequence=8))

    assert why(endpoint).message.startswith("45 %")


def test_until_something_is_said_the_stage_says_what_comes_next() -> None:
    assert why(downloading()).message == "runtime-deployer is at work; next: runtime model downloaded"


def test_what_is_behind_says_nothing_of_the_next_stage() -> None:
    endpoint = downloading(progressed(95, sequence=7))
    loaded = an_endpoint(
        *tellings(UP_TO_IMAGE), progressed(95, sequence=7), told(runtime.ModelDownloaded(), sequence=8)
    )

    assert "95 %" in why(endpoint).message
    assert loaded.stage is Stage.LOADING_MODEL
    assert "%" not in why(loaded).message


def test_the_status_has_it_as_a_number_too() -> None:
    stand = Stand()
    made = stand.api.endpoints.create(Ask(a_caller(), "c", "c"), name="chat", spec=SPEC)
    assert isinstance(made, OperationView)
    stand.hear(made.endpoint_id, UP_TO_IMAGE)
    stand.hear(made.endpoint_id, (runtime.ModelProgressed(bytes_done=1, bytes_total=4),), first=9)

    stages = stand.api.endpoints.get(a_caller(), "chat").status.stages

    assert {each.name: each.progress for each in stages if each.is_current} == {"downloading_model": 0.25}
    assert {each.progress for each in stages if not each.is_current} == {None}


def test_a_model_that_is_gated_says_what_to_do() -> None:
    message = "hf://o/n@v1 is gated: accept its terms on the hub with the account of its token"
    failed = told(runtime.RuntimeFailed(reason="ModelGated", message=message), sequence=7)

    (cause,) = causes_of(an_endpoint(*tellings(UP_TO_IMAGE), failed), CATALOGUE, NOW)

    assert (cause.code, cause.waiting_on, cause.message) == ("model_gated", "you", message)
    assert cause.offers[0].message == "use millrace/ngram-1-large"


def test_a_dry_run_says_what_each_gpu_would_hold() -> None:
    stand = Stand(catalogue=sold(LLAMA_8B))

    told = stand.api.endpoints.create(Ask(a_caller(), "c", "c", dry_run=True), name="chat", spec=SPEC_OF_IT)

    assert isinstance(told, PlanView)
    assert told.memory is not None
    assert (told.memory.weights_mib, told.memory.cache_mib, told.memory.needed_mib) == (15_317, 1024, 18_389)
    assert told.memory.longest_tokens > 8192


@pytest.mark.parametrize("dry_run", [False, True])
def test_what_fits_no_gpu_is_refused_at_the_door_and_nothing_is_claimed(dry_run: bool) -> None:
    stand = Stand(catalogue=sold(LLAMA_70B))
    before = stand.stored()

    with pytest.raises(FieldRefused, match="does not fit l40s-dedicated: its GPU needs"):
        stand.api.endpoints.create(Ask(a_caller(), "c", "c", dry_run=dry_run), name="chat", spec=SPEC_OF_IT)

    assert stand.stored() == before


@pytest.mark.parametrize(
    ("fetched_bytes", "said"),
    [
        (0, "the model was in the cache: nothing was downloaded"),
        (GIB // 2, "512.0 MiB were downloaded, the digest is right"),
        (None, ""),
    ],
)
def test_what_was_downloaded_is_said_and_that_nothing_was(fetched_bytes: int | None, said: str) -> None:
    stand = Stand()
    made = stand.api.endpoints.create(Ask(a_caller(), "c", "c"), name="chat", spec=SPEC)
    assert isinstance(made, OperationView)
    stand.hear(made.endpoint_id, UP_TO_IMAGE)
    stand.hear(made.endpoint_id, (runtime.ModelDownloaded(bytes_fetched=fetched_bytes),), first=9)

    status = stand.api.endpoints.get(a_caller(), "chat").status

    assert status.stage is Stage.LOADING_MODEL
    assert [each.message for each in status.stages if each.name == Stage.DOWNLOADING_MODEL] == [said]
