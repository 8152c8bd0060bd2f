"""One example of every event, true to life: they are published beside the schemas, and each must validate.

They are made when asked for, not on import: the gate must be able to say what an edit of a model breaks, even if no
example fits the model any more.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from typing import Final

from libs.common.events import audit, caches, capacity, command, endpoint, route, runtime, scale, tenant, usage, webhook
from libs.common.events.event import Event

WHEN_MS: Final = 1_800_000_000_000
TENANT: Final = {"tenant_id": "acme", "project_id": "default"}
CLUSTER: Final = {"platform_project": "mr-acme-default", "cluster": "ep-7f3akq2xpd"}


@cache
def examples() -> tuple[Event, ...]:
    """One of each."""
    groups = (_of_doors(), _of_endpoints(), _of_tenants(), _of_capacity(), _of_runtimes(), _of_routes(), _of_usage())
    return tuple(each for group in groups for each in group)


def _of_doors() -> Iterator[Event]:
    yield command.CommandAnswered(
        **TENANT,
        command_id="create-chat-1",
        status=202,
        body={"id": "op-7f3akq2xpd-1", "verb": "create", "endpoint_id": "ep-7f3akq2xpd", "status": "running"},
    )
    yield audit.AuditRecorded(
        seq=41,
        hash="9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
        at_ms=WHEN_MS,
        tenant_id="acme",
        project_id="main",
        actor="key:abcdefghij",
        action="create_endpoint",
        target="ep-abcdefghij",
        request_id="req-1",
    )
    yield webhook.WebhookTested(**TENANT, webhook_id="wh-7f3akq2xpd")
    yield webhook.WebhookDisabled(**TENANT, webhook_id="wh-7f3akq2xpd", reason="receiver_failing")


def _of_endpoints() -> Iterator[Event]:
    yield endpoint.EndpointRequested(**TENANT, name="chat", spec=_spec(), placement=_placement())
    yield endpoint.EndpointDeletionRequested(**TENANT, drain_deadline_ms=120_000)
    yield endpoint.EndpointPauseRequested(**TENANT, drain_deadline_ms=120_000)
    yield endpoint.EndpointFailed(**TENANT, reason="ImagePullBackOff", message="The runtime's image can't be pulled.")
    yield endpoint.EndpointStageChanged(
        **TENANT,
        name="chat",
        stage=endpoint.Stage.JOINING_NODES,
        previous=endpoint.Stage.PROVISIONING_CLUSTER,
        since_ms=WHEN_MS,
        waiting_on="capacity-manager",
        deadline_ms=WHEN_MS + 1_800_000,
    )
    yield endpoint.OperationFinished(
        tenant_id="acme", operation_id="op-7f3akq2xpd-1", verb="create", outcome="succeeded"
    )
    yield endpoint.KeyCreated(**TENANT, key_id="k3yabcdefg", scopes=("inference",))
    yield endpoint.KeyRotated(
        **TENANT, key_id="k3yabcdefg", successor_id="k4yabcdefg", old_expires_at_ms=WHEN_MS + 86_400_000
    )
    yield endpoint.KeyRevoked(**TENANT, key_id="k3yabcdefg")


def _of_tenants() -> Iterator[Event]:
    yield tenant.TenantChanged(
        tenant_id="acme",
        display_name="Acme Research",
        tiers=("h100-dedicated",),
        quota=tenant.Quota(endpoints=20, replicas=64, gpus={"metal3.gpu-h100": 64, "*": 16}, requests_per_minute=6000),
        suspended=False,
    )
    yield tenant.ProjectChanged(tenant_id="acme", project_id="default", quota=tenant.Quota(endpoints=5))
    yield tenant.BudgetWarned(
        **TENANT, of="project", period="2026-11", percent=80, tokens_spent=4_120_000, money_spent_nano=200_400_000_000,
        money_per_month_nano=250_000_000_000, currency="EUR",
    )  # fmt: skip
    yield tenant.DomainChanged(
        **TENANT,
        domain="acme.example",
        status="lapsing",
        proof_seen_ms=WHEN_MS - 3 * 86_400_000,
        lapses_ms=WHEN_MS + 14 * 86_400_000,
    )
    yield tenant.MemberChanged(
        tenant_id="acme", project_id="", member_id="mb-7f3akq2xpd", member_kind="person", role="developer"
    )


def _of_capacity() -> Iterator[Event]:
    yield capacity.CapacityQueued()
    yield capacity.CapacityWaiting(reason="NoCapacity", message="All 4 nodes of metal3.gpu-h100 are taken.")
    yield capacity.CapacityReserved(**CLUSTER, node_type="metal3.gpu-h100", nodes=1)
    yield capacity.ClusterReady(**CLUSTER)
    yield capacity.NodesJoined(nodes=1)
    yield capacity.GpuReady(**CLUSTER, gpus=8)
    yield capacity.CapacityFailed(
        reason="TemplateNotFound", message="The Platform has no template inference-h100@9.9.9."
    )
    yield capacity.CapacityReleased()
    yield capacity.NodeJoined(claim="ep-7f3akq2xpd-62ftb", node_type="metal3.gpu-h100", gpu_count=8, at_ms=WHEN_MS)
    yield capacity.NodeUsed(claim="sc-l40s-shared-eu-1-8k2ab", use=capacity.NodeUse.WARM, at_ms=WHEN_MS)
    yield capacity.PoolDrawn(tier="l40s-shared", region="eu-1", nodes=2, warm=1, idle_gpu_ms=7_200_000)
    yield capacity.NodeLost(
        claim="ep-7f3akq2xpd-62ftb",
        at_ms=WHEN_MS + 3_500_000,
        seen_at_ms=WHEN_MS + 3_504_000,
        reason="ClaimFailed",
        message="the machine does not answer any more",
        waiting_on="vCluster Platform",
    )
    yield capacity.NodeDrifted(
        claim="ep-7f3akq2xpd-62ftb", message="its node type has another OS image", waiting_on="operator"
    )
    yield capacity.NodeReplacementRequested(
        claim="ep-7f3akq2xpd-62ftb", reason="driver 570", actor="operator:jane", ahead=0
    )
    yield capacity.NodeDraining(
        claim="ep-7f3akq2xpd-62ftb",
        node="ep-7f3akq2xpd-62ftb",
        reason="driver 570",
        surges=True,
        deadline_ms=WHEN_MS + 3_600_000,
    )
    yield capacity.NodeReplaced(
        claim="ep-7f3akq2xpd-62ftb",
        reason="driver 570",
        actor="operator:jane",
        outcome="replaced",
        requested_at_ms=WHEN_MS,
        at_ms=WHEN_MS + 900_000,
    )
    yield capacity.CapacityDrifted(
        cluster="ep-7f3akq2xpd", what="gpuQuantity", wanted="2", found="1", waiting_on="capacity-manager"
    )
    yield capacity.NodeReleased(claim="ep-7f3akq2xpd-62ftb", at_ms=WHEN_MS + 3_600_000)


def _of_runtimes() -> Iterator[Event]:
    yield runtime.ImagePulled()
    yield runtime.ModelDownloaded(bytes_fetched=16_062_000_000)
    yield runtime.ModelLoaded()
    yield runtime.CacheWarmed(replicas=(_replica(),))
    yield runtime.ReplicasChanged(desired=2, ready=1, replicas=(_replica(),))
    yield runtime.VolumeChanged(capacity_bytes=200 << 30)
    yield from _of_caches()
    yield runtime.ModelProgressed(bytes_done=8_031_000_000, bytes_total=16_062_000_000)
    yield runtime.RuntimeDegraded(reason="NoReadyReplica", message="0 of 1 replicas are ready; one is restarting.")
    yield runtime.RuntimeRecovered()
    yield runtime.RuntimeFailed(reason="CrashLoopBackOff", message="The engine ended 5 times with exit code 1.")
    yield runtime.RuntimeRemoved()


def _of_caches() -> Iterator[Event]:
    place = caches.CachePlace(
        kind=caches.CacheKind.NODE,
        platform_project="mr-acme-main",
        cluster="ep-7f3akq2xpd",
        name="ep-7f3akq2xpd-62ftb",
        path="/var/lib/millrace/models",
    )
    model, brought_by = {"model_digest": "sha256:" + "5e" * 32, "size_bytes": 16_062_000_000}, "ep-7f3akq2xpd"
    yield caches.ModelWarmed(cache=place, **model, endpoint_id=brought_by, bytes_fetched=16_062_000_000)
    yield caches.ModelHit(cache=place, **model, endpoint_id=brought_by, kept_for=brought_by)
    yield caches.ModelReleased(cache=place, **model, endpoint_id=brought_by)
    yield caches.ModelEvicted(cache=place, **model, endpoint_id="", reason=caches.Eviction.ROOM)


def _of_routes() -> Iterator[Event]:
    yield route.RoutePublished(url="http://127.0.0.1:8800/v1")
    yield route.RouteWaiting(
        reason="DnsNotReady", message="https://api.example.test/v1/models/chatty: its name does not resolve"
    )
    yield route.RouteWithdrawn(streams_cut=0)
    yield route.UsageReported(instance="router-1", boot_id="b-2f6c", boot_seq=17, requests=(_request(),))
    yield route.KeyUsed(instance="router-1", keys=(route.UsedKey(key_id="k3yabcdefg", last_used_ms=WHEN_MS),))
    draw = route.Draw(budget="acme.main", period="2027-01", spent=18_204, returned=0, needs=19_000, wants=32_000)
    yield route.BudgetDrawn(instance="router-1", boot_id="b-2f6c", draws=(draw,))
    yield route.TrafficObserved(
        instance="router-1",
        from_ms=WHEN_MS,
        to_ms=WHEN_MS + 2_000,
        endpoints=(
            route.EndpointLoad(
                endpoint_id="ep-7f3akq2xpd", requests=31, concurrency_max=14, concurrency_avg_milli=11_250
            ),
        ),
    )


def _of_usage() -> Iterator[Event]:
    yield usage.UsageConfirmed(instance="router-1", request_ids=("req-0a1b2c3d4e5f",))
    yield usage.UsageRecorded(
        **TENANT,
        endpoint_id="ep-7f3akq2xpd",
        model="millrace/ngram-1",
        tier="h100-dedicated",
        region="eu-1",
        meter=usage.Meter.COMPLETION_TOKENS,
        quantity=64,
        window_start_ms=WHEN_MS,
        window_end_ms=WHEN_MS + 60_000,
        revision=1,
        tenancy="tenant_cluster",
        parts=(usage.UsagePart(quantity=24), usage.UsagePart(quantity=40, adapter="legal")),
    )
    cut = usage.CutStream(request_id="req-2f6c-1a", generation=3, completion_tokens=812, ended_ms=WHEN_MS)
    yield usage.StreamsCut(streams=(cut,))
    yield usage.BudgetReached(
        tenant_id="acme",
        project_id="main",
        period="2027-01",
        percent=80,
        tokens_per_month=1_000_000,
        tokens_spent=801_220,
    )
    yield scale.ScaleDecided(
        replicas=2,
        reason="11.2 requests in flight need 2 replicas of 8",
        inputs=scale.ScaleInputs(
            current=1, min=1, max=2, target_concurrency=8, concurrency_milli=11_250, window_ms=6_000, samples=3
        ),
    )
    yield scale.PoolTargeted(
        nodes=3,
        reason="3 nodes were drawn within 10 minutes, at most, in the last hour",
        inputs=scale.PoolInputs(window_ms=3_600_000, draws=4, at_once=3, boot_ms=600_000),
    )


def _spec() -> endpoint.EndpointSpec:
    return endpoint.EndpointSpec(
        model="millrace/ngram-1",
        tier="h100-dedicated",
        region="eu-1",
        scaling=endpoint.Scaling(min=1, max=2, target_concurrency=8),
    )


def _placement() -> endpoint.Placement:
    return endpoint.Placement(
        tenancy="tenant_cluster",
        node_type="metal3.gpu-h100",
        gpus_per_node=8,
        gpus_per_replica=4,
        cluster_template="inference-h100@1.0.0",
        runtime_template="vllm@1",
        model_digest="sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
        model_size_bytes=2_000_000_000,
        price_class="h100",
    )


def _replica() -> runtime.Replica:
    return runtime.Replica(name="ep-7f3akq2xpd-5c9-x2v7q", url="http://127.64.3.9:8000")


def _request() -> route.RequestUsage:
    return route.RequestUsage(
        request_id="req-0a1b2c3d4e5f",
        **TENANT,
        endpoint_id="ep-7f3akq2xpd",
        generation=1,
        model="millrace/ngram-1",
        tier="h100-dedicated",
        region="eu-1",
        key_id="k3yabcdefg",
        api="chat",
        prompt_tokens=12,
        completion_tokens=64,
        token_source="engine_final",
        finish="stop",
        started_ms=WHEN_MS,
        first_token_ms=WHEN_MS + 120,
        ended_ms=WHEN_MS + 2_400,
    )
