"""One example of every event, true to life: they are published beside the schemas, and each must validate."""

from __future__ import annotations

from typing import Final

from libs.common.events import audit, capacity, command, endpoint, route, runtime, scale, tenant, usage, webhook
from libs.common.events.event import Event

WHEN_MS: Final = 1_800_000_000_000
TENANT: Final = {"tenant_id": "acme", "project_id": "default"}
REPLICA: Final = runtime.Replica(name="ep-7f3akq2xpd-5c9-x2v7q", url="http://127.64.3.9:8000")
CLUSTER: Final = {"platform_project": "mr-acme-default", "cluster": "ep-7f3akq2xpd"}

SPEC: Final = endpoint.EndpointSpec(
    model="millrace/ngram-1",
    tier="h100-dedicated",
    region="eu-1",
    scaling=endpoint.Scaling(min=1, max=2, target_concurrency=8),
)
PLACEMENT: Final = endpoint.Placement(
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
REQUEST: Final = route.RequestUsage(
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

EXAMPLES: Final[tuple[Event, ...]] = (
    command.CommandAnswered(
        **TENANT,
        command_id="create-chat-1",
        status=202,
        body={"id": "op-7f3akq2xpd-1", "verb": "create", "endpoint_id": "ep-7f3akq2xpd", "status": "running"},
    ),
    audit.AuditRecorded(
        seq=41,
        hash="9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
        at_ms=WHEN_MS,
        tenant_id="acme",
        actor="key:abcdefghij",
        action="create_endpoint",
        target="ep-abcdefghij",
        request_id="req-1",
    ),
    endpoint.EndpointRequested(**TENANT, name="chat", spec=SPEC, placement=PLACEMENT),
    endpoint.EndpointDeletionRequested(**TENANT, drain_deadline_ms=120_000),
    endpoint.EndpointPauseRequested(**TENANT, drain_deadline_ms=120_000),
    endpoint.EndpointFailed(**TENANT, reason="ImagePullBackOff", message="The runtime's image can't be pulled."),
    endpoint.EndpointStageChanged(
        **TENANT,
        name="chat",
        stage=endpoint.Stage.JOINING_NODES,
        previous=endpoint.Stage.PROVISIONING_CLUSTER,
        since_ms=WHEN_MS,
        waiting_on="capacity-manager",
        deadline_ms=WHEN_MS + 1_800_000,
    ),
    endpoint.OperationFinished(tenant_id="acme", operation_id="op-7f3akq2xpd-1", verb="create", outcome="succeeded"),
    endpoint.KeyCreated(**TENANT, key_id="k3yabcdefg", scopes=("inference",)),
    endpoint.KeyRevoked(**TENANT, key_id="k3yabcdefg"),
    tenant.TenantChanged(
        tenant_id="acme",
        display_name="Acme Research",
        tiers=("h100-dedicated",),
        quota=tenant.Quota(endpoints=20, replicas=64, gpus={"metal3.gpu-h100": 64, "*": 16}, requests_per_minute=6000),
        suspended=False,
    ),
    tenant.ProjectChanged(tenant_id="acme", project_id="default", quota=tenant.Quota(endpoints=5)),
    tenant.MemberChanged(
        tenant_id="acme", project_id="", member_id="mb-7f3akq2xpd", member_kind="person", role="developer"
    ),
    webhook.WebhookTested(**TENANT, webhook_id="wh-7f3akq2xpd"),
    webhook.WebhookDisabled(**TENANT, webhook_id="wh-7f3akq2xpd", reason="receiver_failing"),
    capacity.CapacityQueued(),
    capacity.CapacityWaiting(reason="NoCapacity", message="All 4 nodes of metal3.gpu-h100 are taken."),
    capacity.CapacityReserved(**CLUSTER, node_type="metal3.gpu-h100", nodes=1),
    capacity.ClusterReady(**CLUSTER),
    capacity.NodesJoined(nodes=1),
    capacity.GpuReady(**CLUSTER, gpus=8),
    capacity.CapacityFailed(reason="TemplateNotFound", message="The Platform has no template inference-h100@9.9.9."),
    capacity.CapacityReleased(),
    capacity.NodeJoined(claim="ep-7f3akq2xpd-62ftb", node_type="metal3.gpu-h100", gpu_count=8, at_ms=WHEN_MS),
    capacity.NodeReleased(claim="ep-7f3akq2xpd-62ftb", at_ms=WHEN_MS + 3_600_000),
    runtime.ImagePulled(),
    runtime.ModelDownloaded(),
    runtime.ModelLoaded(),
    runtime.CacheWarmed(replicas=(REPLICA,)),
    runtime.ReplicasChanged(desired=2, ready=1, replicas=(REPLICA,)),
    runtime.RuntimeDegraded(reason="NoReadyReplica", message="0 of 1 replicas are ready; one is restarting."),
    runtime.RuntimeRecovered(),
    runtime.RuntimeFailed(reason="CrashLoopBackOff", message="The engine ended 5 times with exit code 1."),
    runtime.RuntimeRemoved(),
    route.RoutePublished(url="http://127.0.0.1:8800/v1"),
    route.RouteWithdrawn(streams_cut=0),
    route.UsageReported(instance="router-1", boot_id="b-2f6c", boot_seq=17, requests=(REQUEST,)),
    route.TrafficObserved(
        instance="router-1",
        from_ms=WHEN_MS,
        to_ms=WHEN_MS + 2_000,
        endpoints=(
            route.EndpointLoad(
                endpoint_id="ep-7f3akq2xpd", requests=31, concurrency_max=14, concurrency_avg_milli=11_250
            ),
        ),
    ),
    usage.UsageConfirmed(instance="router-1", request_ids=("req-0a1b2c3d4e5f",)),
    usage.UsageRecorded(
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
    ),
    scale.ScaleDecided(
        replicas=2,
        reason="11.2 requests in flight need 2 replicas of 8",
        inputs=scale.ScaleInputs(
            current=1, min=1, max=2, target_concurrency=8, concurrency_milli=11_250, window_ms=6_000, samples=3
        ),
    ),
)
