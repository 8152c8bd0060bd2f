"""The verbs: idempotent, counted exactly, blind across tenants, safe against a crash between commit and answer."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from libs.common.errors import Conflict, Invalid, MillraceError, NotFound, QuotaExceeded
from libs.common.events.endpoint import EndpointSpec, Stage
from libs.common.store.memory import MemoryStore
from services.endpoint_api.core.caller import Ask, Caller
from services.endpoint_api.core.planning import PlanView
from services.endpoint_api.core.refusal import FieldRefused, Forbidden
from services.endpoint_api.core.status import OperationView
from services.endpoint_api.shell.metrics import COMMANDS, ENDPOINTS, OVERDUE, STAGE_SECONDS, count_stages
from tests.unit.endpoint_api.given import CATALOGUE, NOW, PROGRESS, SPEC, TEARDOWN, Stand, a_caller

OTHER = EndpointSpec(model="millrace/ngram-1", tier="h100-dedicated", region="eu-1")


class Crash(BaseException):
    """The process died here."""


def ask(
    stand: Stand, name: str = "chat", *, key: str | None = "k1", spec: EndpointSpec = SPEC, who: Caller | None = None
) -> OperationView:
    """A create."""
    return accepted(stand.api.endpoints.create(Ask(who or a_caller(), "r1", key), name=name, spec=spec))


def accepted(answer: OperationView | PlanView) -> OperationView:
    """The operation that was accepted."""
    assert isinstance(answer, OperationView), answer
    return answer


def test_the_same_key_and_body_is_the_same_operation() -> None:
    stand = Stand()
    first = ask(stand)
    before = stand.stored()

    again = ask(stand)

    assert again == first
    assert stand.stored() == before


def test_the_same_key_with_another_body_is_refused() -> None:
    stand = Stand()
    ask(stand)
    before = stand.stored()

    for other in ({"name": "other"}, {"spec": OTHER}):
        with pytest.raises(Invalid) as refusal:
            ask(stand, **other)
        assert refusal.value.code == "idempotency_key_reused"

    assert stand.stored() == before


def test_without_a_key_the_request_id_makes_a_repeat_the_same_request() -> None:
    stand = Stand()

    assert ask(stand, key=None) == ask(stand, key=None)


def test_an_idempotency_key_is_never_mistaken_for_a_request_id() -> None:
    stand = Stand()
    ask(stand, key=None)

    with pytest.raises(FieldRefused):
        ask(stand, key="request r1")


def test_a_repeat_after_the_catalogue_changed_is_still_the_same_operation() -> None:
    stand = Stand()
    first = ask(stand)
    smaller = Stand(store=stand.store, catalogue=type(CATALOGUE)(CATALOGUE.tiers[:1], ()))

    assert ask(smaller) == first


def test_a_crash_between_commit_and_answer_makes_one_endpoint() -> None:
    moments: list[str] = []

    def die(moment: str) -> None:
        moments.append(moment)
        if moment == "after" and len(moments) == 2:
            raise Crash

    stand = Stand(store=MemoryStore(on_commit=die))
    with pytest.raises(Crash):
        ask(stand)

    again = ask(stand)

    assert stand.stored()[0] == 1
    kinds = [each.headers["ce-type"] for each in stand.store.outbox.values()]
    assert kinds == ["endpoint.requested.v1", "audit.recorded.v1"]
    assert stand.store.counter("endpoints/acme") == 1
    assert again.status == "running"


def test_a_crash_before_the_commit_makes_nothing() -> None:
    def die(moment: str) -> None:
        raise Crash

    stand = Stand(store=MemoryStore(on_commit=die))

    with pytest.raises(Crash):
        ask(stand)

    assert stand.stored() == (0, 0, 0, {})


def test_a_crash_after_the_commit_of_a_delete_makes_one_delete() -> None:
    crashing: list[bool] = []

    def die(moment: str) -> None:
        if moment == "after" and crashing:
            crashing.clear()
            raise Crash

    stand = Stand(store=MemoryStore(on_commit=die))
    created = ask(stand)
    crashing.append(True)
    with pytest.raises(Crash):
        stand.api.endpoints.delete(Ask(a_caller(), "r2"), created.endpoint_id)

    again = accepted(stand.api.endpoints.delete(Ask(a_caller(), "r2"), created.endpoint_id))

    kinds = [each.headers["ce-type"] for each in stand.store.outbox.values()]
    assert kinds.count("endpoint.deletion_requested.v1") == 1
    assert (again.generation, again.status) == (2, "running")


def test_a_name_that_is_taken_is_refused_until_it_is_free() -> None:
    stand = Stand()
    created = ask(stand)
    before = stand.stored()

    with pytest.raises(Conflict) as refusal:
        ask(stand, key="k2")

    assert refusal.value.code == "name_taken"
    assert stand.stored() == before
    stand.api.endpoints.delete(Ask(a_caller(), "r2"), "chat")
    stand.hear(created.endpoint_id, TEARDOWN, generation=2)
    assert ask(stand, key="k2").endpoint_id != created.endpoint_id
    assert stand.store.counter("endpoints/acme") == 1


def test_the_same_name_in_another_project_is_free() -> None:
    stand = Stand()
    ask(stand)

    assert ask(stand, who=a_caller(project="second")).status == "running"


def test_sixty_four_creates_at_once_against_a_limit_of_ten_make_ten() -> None:
    stand = Stand(endpoints_max=10)

    def one(n: int) -> bool:
        try:
            ask(stand, f"chat-{n}", key=f"k{n}")
        except QuotaExceeded:
            return False
        return True

    with ThreadPoolExecutor(16) as pool:
        made = list(pool.map(one, range(64)))

    assert sum(made) == 10
    assert stand.stored()[0] == 10
    assert stand.store.counter("endpoints/acme") == 10


def test_one_key_used_sixty_four_times_at_once_makes_one() -> None:
    stand = Stand()

    with ThreadPoolExecutor(16) as pool:
        made = set(pool.map(lambda _: ask(stand).id, range(64)))

    assert len(made) == 1
    assert stand.stored()[0] == 1


def test_a_refused_create_can_be_asked_again_with_the_same_key() -> None:
    stand = Stand(endpoints_max=1)
    created = ask(stand, "first", key="k1")
    with pytest.raises(QuotaExceeded):
        ask(stand, "second", key="k2")

    stand.api.endpoints.delete(Ask(a_caller(), "r2"), "first")
    stand.hear(created.endpoint_id, TEARDOWN, generation=2)

    assert ask(stand, "second", key="k2").status == "running"


@pytest.mark.parametrize(
    "name", ["", "A", "1a", "a_b", "-a", "a-", "a" * 41, "a b", "ä", "ep-abcdefghij", "a\n", "a/b"]
)
def test_a_name_that_is_no_label_is_refused(name: str) -> None:
    stand = Stand()

    with pytest.raises(FieldRefused) as refusal:
        ask(stand, name)

    assert refusal.value.field == "name"
    assert stand.stored() == (0, 0, 0, {})


@pytest.mark.parametrize("name", ["a", "a1", "my-chat", "a" * 40])
def test_a_name_that_is_a_label_is_taken(name: str) -> None:
    stand = Stand()

    ask(stand, name)

    assert stand.api.endpoints.get(a_caller(), name).name == name


def test_another_tenants_things_are_refused_in_the_words_for_what_never_was() -> None:
    stand = Stand()
    mine = ask(stand)
    key = stand.api.keys.create(Ask(a_caller()), name="ci", scopes=["read"])
    for stranger in (a_caller(tenant="spy"), a_caller(project="side")):
        for real, never in (
            (lambda s=stranger: stand.api.endpoints.get(s, mine.endpoint_id), "ep-aaaaaaaaaa"),
            (lambda s=stranger: stand.api.endpoints.get(s, "chat"), "ep-aaaaaaaaaa"),
        ):
            assert words(real) == words(lambda s=stranger, n=never: stand.api.endpoints.get(s, n))
        assert words(lambda s=stranger: stand.api.endpoints.delete(Ask(s), mine.endpoint_id)) == words(
            lambda s=stranger: stand.api.endpoints.delete(Ask(s), "ep-aaaaaaaaaa")
        )
        assert words(lambda s=stranger: stand.api.operations.get(s, mine.id)) == words(
            lambda s=stranger: stand.api.operations.get(s, "op-aaaaaaaaaa-1")
        )
        assert words(lambda s=stranger: stand.api.keys.revoke(Ask(s), key.key.id)) == words(
            lambda s=stranger: stand.api.keys.revoke(Ask(s), "aaaaaaaaaa")
        )
        assert stand.api.endpoints.list(stranger).items == ()
        assert stand.api.keys.list(stranger) == ()

    assert stand.api.endpoints.get(a_caller(), "chat").status.stage is Stage.REQUESTED
    assert stand.api.keys.list(a_caller())[0].revoked_at is None


def words(ask_for: object) -> tuple[type[MillraceError], str, str]:
    """How a call is refused."""
    assert callable(ask_for)
    with pytest.raises(NotFound) as refusal:
        ask_for()
    return type(refusal.value), refusal.value.code, str(refusal.value)


def test_one_tenants_idempotency_keys_and_quota_are_not_anothers() -> None:
    stand = Stand(endpoints_max=1)

    mine, theirs = ask(stand), ask(stand, who=a_caller(tenant="other"))

    assert mine.endpoint_id != theirs.endpoint_id


def test_a_list_is_paged_without_gaps_or_repeats_and_leaves_out_the_deleted() -> None:
    stand = Stand()
    made = {ask(stand, f"chat-{n}", key=f"k{n}").endpoint_id for n in range(7)}
    gone = sorted(made)[3]
    stand.api.endpoints.delete(Ask(a_caller(), "r2"), gone)
    stand.hear(gone, TEARDOWN, generation=2)

    seen, cursor, pages = [], "", 0
    while True:
        page = stand.api.endpoints.list(a_caller(), cursor=cursor, limit=2)
        seen += [each.id for each in page.items]
        pages += 1
        if page.next_cursor is None:
            break
        cursor = page.next_cursor

    assert seen == sorted(made - {gone})
    assert pages == 3


@pytest.mark.parametrize("cursor", ["!", "AAAA", "ZXAtMQ==", "é"])
def test_a_cursor_that_no_list_gave_is_refused(cursor: str) -> None:
    with pytest.raises(FieldRefused):
        Stand().api.endpoints.list(a_caller(), cursor=cursor)


@pytest.mark.parametrize("limit", [0, -1, 201])
def test_a_limit_out_of_bounds_is_refused(limit: int) -> None:
    with pytest.raises(FieldRefused):
        Stand().api.endpoints.list(a_caller(), limit=limit)


def test_a_deleted_endpoint_is_found_by_id_and_not_by_name() -> None:
    stand = Stand()
    created = ask(stand)
    deleted = accepted(stand.api.endpoints.delete(Ask(a_caller(), "r2"), "chat"))
    stand.hear(created.endpoint_id, TEARDOWN, generation=2)

    view = stand.api.endpoints.get(a_caller(), created.endpoint_id)

    assert view.status.stage is Stage.DELETED
    assert stand.api.operations.get(a_caller(), deleted.id).status == "succeeded"
    assert stand.api.operations.get(a_caller(), created.id).status == "superseded"
    assert accepted(stand.api.endpoints.delete(Ask(a_caller(), "r2"), created.endpoint_id)).id == deleted.id
    with pytest.raises(NotFound):
        stand.api.endpoints.get(a_caller(), "chat")


def test_scopes_decide_what_a_key_may_do() -> None:
    stand = Stand()
    ask(stand)
    reader, server = a_caller(scopes=frozenset({"read"})), a_caller(scopes=frozenset({"inference"}))
    manager = a_caller(scopes=frozenset({"manage"}))

    assert stand.api.endpoints.get(reader, "chat").name == "chat"
    assert stand.api.endpoints.get(manager, "chat").name == "chat"
    for refused in (
        lambda: ask(stand, "b", key="b", who=reader),
        lambda: stand.api.endpoints.delete(Ask(reader), "chat"),
        lambda: stand.api.endpoints.get(server, "chat"),
        lambda: stand.api.endpoints.list(server),
        lambda: stand.api.offers.tiers(server),
    ):
        with pytest.raises(Forbidden):
            refused()


def test_the_status_of_a_ready_endpoint_says_so_in_every_way() -> None:
    stand = Stand()
    created = ask(stand)
    for index, each in enumerate(PROGRESS):
        stand.clock.advance(1_000)
        stand.hear(created.endpoint_id, (each,), first=index + 1)
    stand.clock.advance(500)

    status = stand.api.endpoints.get(a_caller(), "chat").status

    assert status.stage is Stage.READY
    assert status.url == "http://127.0.0.1:8800/v1"
    assert status.model_state == "warm"
    assert (status.generation, status.observed_generation) == (1, 1)
    assert {each.type: each.status for each in status.conditions} == dict.fromkeys(
        ("Ready", "CapacityReady", "RuntimeReady", "RoutePublished"), "True"
    )
    assert status.last_operation.status == "succeeded"
    assert sum(each.elapsed_ms for each in status.stages) == stand.clock.now_ms() - NOW


def test_a_waiting_endpoint_says_on_whom_and_until_when() -> None:
    stand = Stand()
    ask(stand)
    stand.clock.advance(2_000)

    stage = stand.api.endpoints.get(a_caller(), "chat").status.stages[0]

    assert (stage.name, stage.elapsed_ms, stage.waiting_on) == ("requested", 2_000, "capacity-manager")
    assert stage.since == "2027-01-15T08:00:00.000Z"
    assert stage.deadline == "2027-01-15T08:15:00.000Z"


def test_a_deadline_that_passes_fails_the_endpoint_by_the_clock_alone() -> None:
    stand = Stand()
    created = ask(stand)

    stand.clock.advance(15 * 60_000 - 1)
    assert stand.service.tick().woken == 0
    stand.clock.advance(1)
    assert stand.service.tick().woken == 1
    assert stand.service.tick().woken == 0

    view = stand.api.endpoints.get(a_caller(), "chat")
    assert view.status.stage is Stage.FAILED
    assert view.status.replicas.desired == 0
    assert view.status.reason == "DeadlinePassed"
    assert "capacity.queued" in view.status.message
    assert "capacity-manager" in stand.api.operations.get(a_caller(), created.id).message
    assert "endpoint.failed.v1" in [each.headers["ce-type"] for each in stand.store.outbox.values()]


def test_the_gauges_count_what_is_stored() -> None:
    stand = Stand()
    ids = [ask(stand, f"chat-{n}", key=f"k{n}").endpoint_id for n in range(3)]
    stand.hear(ids[0], PROGRESS)
    for ended in ids[1:]:
        stand.api.endpoints.delete(Ask(a_caller(), "r2"), ended)
    stand.hear(ids[2], TEARDOWN, generation=2)
    stand.clock.advance(16 * 60_000)

    count_stages(stand.endpoints, stand.store, stand.clock)

    counts = {stage: ENDPOINTS.labels(stage=stage)._value.get() for stage in Stage}
    assert {stage: n for stage, n in counts.items() if n} == {Stage.READY: 1, Stage.DRAINING: 1}
    assert OVERDUE.labels(stage=Stage.DRAINING)._value.get() == 1
    assert OVERDUE.labels(stage=Stage.READY)._value.get() == 0


def test_commands_and_stage_times_are_measured() -> None:
    stand = Stand(endpoints_max=1)
    refused = COMMANDS.labels(verb="create", outcome="quota_exceeded")
    before, seconds_before = refused._value.get(), STAGE_SECONDS.labels(stage="requested")._sum.get()
    created = ask(stand)
    with pytest.raises(QuotaExceeded):
        ask(stand, "b", key="b")

    stand.clock.advance(3_000)
    stand.hear(created.endpoint_id, PROGRESS[:1])

    assert refused._value.get() == before + 1
    assert STAGE_SECONDS.labels(stage="requested")._sum.get() == seconds_before + 3


def test_one_name_can_live_and_die_many_times() -> None:
    stand = Stand()

    for n in range(3):
        created = ask(stand, key=f"k{n}")
        stand.api.endpoints.delete(Ask(a_caller(), "r2"), "chat")
        stand.hear(created.endpoint_id, TEARDOWN, generation=2)
        assert stand.api.endpoints.get(a_caller(), created.endpoint_id).status.stage is Stage.DELETED

    assert stand.store.counter("endpoints/acme") == 0
