"""What the API promises, as one list of cases: the same for each of its doors, HTTP and bus.

`doors` says where a case can be asked; where that is not both, a comment says why. On the bus nobody can be answered by
a message that says not whose it is: it is parked.
"""

from __future__ import annotations

from typing import Final

from libs.common.events import command as cmd
from services.endpoint_api.core.requests import LEASE_MS
from tests.contract.api_case import (
    BUS_ONLY,
    DELETED,
    HTTP_ONLY,
    ON_CHAT,
    PAUSED,
    REQUESTED,
    SPEC,
    Case,
    Given,
    Send,
    cancel,
    create,
    hold,
    on_chat,
    revoke,
    running,
    scale,
    update,
)

HELD: Final = (("status", "running"), ("paused", True))
GOES_ON: Final = (("status", "running"), ("paused", False))
ACCEPTED: Final = (
    Case("a create", Given.NOTHING, (create(202, says=running("create", 1)),), (REQUESTED,)),
    Case(
        "an update of the limits",
        Given.READY,
        (update(202, spec={"limits": {"requests_per_minute": 5}}, says=(("verb", "update"), ("generation", 2))),),
        (REQUESTED,),
    ),
    Case(
        "a scale",
        Given.READY,
        (scale(202, scaling={"max": 3}, says=(("verb", "scale"), ("generation", 2))),),
        (REQUESTED,),
    ),
    Case("a pause", Given.READY, (on_chat(cmd.PauseEndpoint, 202, says=running("pause", 2)),), (PAUSED,)),
    Case("a drain", Given.READY, (on_chat(cmd.DrainEndpoint, 202, says=running("drain", 2)),), (PAUSED,)),
    Case("a resume", Given.PAUSED, (on_chat(cmd.ResumeEndpoint, 202, says=running("resume", 3)),), (REQUESTED,)),
    Case("a delete", Given.READY, (on_chat(cmd.DeleteEndpoint, 202, says=running("delete", 2)),), (DELETED,)),
    Case("a delete of what is being deleted", Given.DELETING, (on_chat(cmd.DeleteEndpoint, 202),), ()),
    Case("a cancel of a create", Given.REQUESTED, (cancel(202, says=(("verb", "create"),)),), (DELETED,)),
    Case("a pause of a rollout", Given.ROLLING, (hold(cmd.PauseOperation, 202, says=HELD),), (REQUESTED,)),
    Case("a pause of a rollout that is paused", Given.HELD, (hold(cmd.PauseOperation, 202, says=HELD),), ()),
    Case("a resume of a rollout", Given.HELD, (hold(cmd.ResumeOperation, 202, says=GOES_ON),), (REQUESTED,)),
    Case("a revocation", Given.KEY, (revoke(200, says=(("name", "ci"),)),), ("key.revoked",)),
    Case(
        "a precondition that holds",
        Given.READY,
        (on_chat(cmd.PauseEndpoint, 202, if_match='"1"', says=running("pause", 2)),),
        (PAUSED,),
    ),
)

PLANNED: Final = (
    Case("a plan of a create", Given.NOTHING, (create(200, dry_run=True),)),
    *(
        Case(f"a plan of {kind.kind}", Given.PAUSED if kind is cmd.ResumeEndpoint else Given.READY, (send,))
        for kind in ON_CHAT
        for send in (on_chat(kind, 200, dry_run=True),)
    ),
    Case("a plan of what is refused", Given.READY, (create(409, "name_taken", dry_run=True),)),
    Case("a plan past a quota", Given.FULL, (create(429, "quota_exceeded", name="two", dry_run=True),)),
)

REFUSED: Final = (
    *(Case(f"{kind.kind} of nothing", Given.NOTHING, (on_chat(kind, 404, "not_found"),)) for kind in ON_CHAT),
    *(Case(f"{kind.kind} of another's", Given.FOREIGN, (on_chat(kind, 404, "not_found"),)) for kind in ON_CHAT),
    Case("a cancel of nothing", Given.NOTHING, (cancel(404, "not_found", operation="op-aaaaaaaaaa-1"),)),
    Case("a revocation of nothing", Given.NOTHING, (revoke(404, "not_found", key="aaaaaaaaaa"),)),
    # A command on the bus always has the rights to manage: the broker says who may publish one.
    *(
        Case(
            f"{kind.kind} without the scope",
            Given.READY,
            (on_chat(kind, 403, "missing_scope"),),
            doors=HTTP_ONLY,
            scopes=frozenset({"read"}),
        )
        for kind in ON_CHAT
    ),
    Case("a create for a suspended tenant", Given.SUSPENDED, (create(403, "tenant_suspended"),)),
    # Over HTTP the tenant is the key's: there is none that is not there.
    Case(
        "a create for a tenant that is not there",
        Given.NOTHING,
        (Send(cmd.CreateEndpoint, {"name": "chat", "spec": dict(SPEC), "tenant_id": "nobody"}, 403, "not_a_member"),),
        doors=BUS_ONLY,
    ),
    Case("a create past the quota", Given.FULL, (create(429, "quota_exceeded", name="two"),)),
    Case(
        "a create of an unknown model",
        Given.NOTHING,
        (create(422, "unknown_model", spec={**SPEC, "model": "no/such"}, fields=("spec.model",)),),
    ),
    Case(
        "a create by a host name that is not the tenant's",
        Given.NOTHING,
        (create(422, "hostname_not_yours", spec={**SPEC, "hostname": "api.other.example"}, fields=("spec.hostname",)),),
    ),
    Case("a create with a wrong name", Given.NOTHING, (create(422, "invalid", name="No!", fields=("name",)),)),
    Case(
        "a create with a number in quotes",
        Given.NOTHING,
        (create(422, "invalid", spec={**SPEC, "scaling": {"min": "1"}}, fields=("spec.scaling.min",)),),
    ),
    Case(
        "a create with a field that is unknown",
        Given.NOTHING,
        (create(422, "invalid", spec={**SPEC, "scalling": {}}, fields=("spec.scalling",)),),
    ),
    Case(
        "a create without a spec",
        Given.NOTHING,
        (Send(cmd.CreateEndpoint, {"name": "chat"}, 422, "invalid", ("spec",)),),
    ),
    Case(
        "a drain without a deadline",
        Given.READY,
        (Send(cmd.DrainEndpoint, {"endpoint": "chat"}, 422, "invalid", ("drain_deadline_s",)),),
    ),
    Case(
        "a pause with too long a deadline",
        Given.READY,
        (
            Send(
                cmd.PauseEndpoint, {"endpoint": "chat", "drain_deadline_s": 9999}, 422, "invalid", ("drain_deadline_s",)
            ),
        ),
    ),
    Case(
        "a scale of the wrong type",
        Given.READY,
        (scale(422, "invalid", scaling={"max": "two"}, fields=("spec.scaling.max",)),),
    ),
    Case(
        "an update of a field that is unknown",
        Given.READY,
        (update(422, "invalid", spec={"colour": "red"}, fields=("spec",)),),
    ),
    *(
        Case(
            f"an update of the {field}, which never changes",
            Given.READY,
            (update(422, "invalid", spec={field: "other"}, fields=(f"spec.{field}",)),),
        )
        for field in ("tier", "region")
    ),
    Case("a create under a name that is taken", Given.READY, (create(409, "name_taken"),)),
    *(
        Case(
            f"{kind.kind} of what changed since",
            Given.READY,
            (on_chat(kind, 412, "precondition_failed", if_match='"7"'),),
        )
        for kind in ON_CHAT
    ),
    *(
        Case(f"{kind.kind} of what is being deleted", Given.DELETING, (on_chat(kind, 409, "being_deleted"),))
        for kind in ON_CHAT
        if kind is not cmd.DeleteEndpoint
    ),
    *(
        Case(f"{kind.kind} {name}", given, (hold(kind, status, code, operation=operation),))
        for kind in (cmd.PauseOperation, cmd.ResumeOperation)
        for name, given, status, code, operation in (
            ("of what has ended", Given.READY, 409, "operation_finished", "{operation}"),
            ("of what replaces nothing", Given.REQUESTED, 409, "not_pausable", "{operation}"),
            ("of nothing", Given.NOTHING, 404, "not_found", "op-aaaaaaaaaa-1"),
        )
    ),
    Case("a cancel of what has ended", Given.READY, (cancel(409, "operation_finished"),)),
    Case("a cancel of a deletion", Given.DELETING, (cancel(409, "deletion_is_final"),)),
    # No JSON: over HTTP the caller is known by its key, on the bus by the body alone.
    Case(
        "what is no JSON",
        Given.NOTHING,
        (Send(cmd.CreateEndpoint, {}, 400, "malformed_json", raw=b'{"name"'),),
        doors=HTTP_ONLY,
    ),
    Case(
        "what is no JSON, on the bus",
        Given.NOTHING,
        (Send(cmd.CreateEndpoint, {}, 0, "invalid", raw=b'{"name"'),),
        doors=BUS_ONLY,
        parked=True,
    ),
    Case(
        "what says not whose it is",
        Given.NOTHING,
        (Send(cmd.CreateEndpoint, {}, 0, "invalid", raw=b'{"name": "chat"}'),),
        doors=BUS_ONLY,
        parked=True,
    ),
)

REPEATED: Final = (
    Case(
        "a create that is repeated",
        Given.NOTHING,
        (create(202, says=running("create", 1)), create(202, says=running("create", 1))),
        (REQUESTED,),
    ),
    Case(
        "a pause that is repeated",
        Given.READY,
        (on_chat(cmd.PauseEndpoint, 202, says=running("pause", 2)), on_chat(cmd.PauseEndpoint, 202)),
        (PAUSED,),
    ),
    Case(
        "a scale that is repeated after another",
        Given.READY,
        (
            scale(202, scaling={"max": 2}),
            scale(202, scaling={"max": 3}, id="k2"),
            scale(202, scaling={"max": 2}, says=(("generation", 2),)),
        ),
        (REQUESTED, REQUESTED),
    ),
    Case("a revocation that is repeated", Given.KEY, (revoke(200), revoke(200)), ("key.revoked",)),
    Case(
        "the same keys in another order",
        Given.READY,
        (
            update(202, spec={"limits": {"requests_per_minute": 5}, "scaling": {"max": 2}}),
            update(202, spec={"scaling": {"max": 2}, "limits": {"requests_per_minute": 5}}),
        ),
        (REQUESTED,),
    ),
    Case(
        "another create under the same id",
        Given.NOTHING,
        (create(202), create(422, "idempotency_key_reused", name="other")),
        (REQUESTED,),
    ),
    *(
        Case(
            f"another body of {kind.kind} under the same id",
            Given.READY,
            (
                Send(kind, {"endpoint": "chat", "drain_deadline_s": 1}, 202),
                Send(kind, {"endpoint": "chat", "drain_deadline_s": 2}, 422, "idempotency_key_reused"),
            ),
            (effect,),
        )
        for kind, effect in (
            (cmd.PauseEndpoint, PAUSED),
            (cmd.DrainEndpoint, PAUSED),
            (cmd.DeleteEndpoint, DELETED),
        )
    ),
    Case(
        "another verb under the same id",
        Given.READY,
        (on_chat(cmd.PauseEndpoint, 202), on_chat(cmd.ResumeEndpoint, 422, "idempotency_key_reused")),
        (PAUSED,),
    ),
    Case(
        "the same under another id",
        Given.READY,
        (scale(202, scaling={"max": 2}), scale(202, scaling={"max": 3}, id="k2", says=(("generation", 3),))),
        (REQUESTED, REQUESTED),
    ),
    *(
        Case(
            f"{send.kind.kind}, cut short between its effect and its answer",
            given,
            (
                Send(send.kind, send.data, send.status, crash=True),
                Send(send.kind, send.data, 409, "request_in_progress"),
                Send(send.kind, send.data, send.status, says=send.says, later_ms=LEASE_MS),
            ),
            (effect,),
        )
        for given, send, effect in (
            (Given.NOTHING, create(202, says=running("create", 1)), REQUESTED),
            (Given.READY, scale(202, scaling={"max": 3}, says=(("generation", 2),)), REQUESTED),
            (Given.READY, on_chat(cmd.PauseEndpoint, 202, says=running("pause", 2)), PAUSED),
            (Given.PAUSED, on_chat(cmd.ResumeEndpoint, 202, says=running("resume", 3)), REQUESTED),
            (Given.READY, on_chat(cmd.DeleteEndpoint, 202, says=running("delete", 2)), DELETED),
            (Given.KEY, revoke(200), "key.revoked"),
        )
    ),
)

CASES: Final = (*ACCEPTED, *PLANNED, *REFUSED, *REPEATED)
