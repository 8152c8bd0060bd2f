"""Short lives of a whole provider in which every event is told: six real services, no accident but the ordered.

Each story takes a simulation without faults from a customer's first request to the end, over endpoint-api's HTTP.
"""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from fastapi.testclient import TestClient

from libs.common.bus.port import Ack, Delivery, Message
from libs.common.bus.streams import CMD, KEYS, message_of
from libs.common.events import command as cmd
from libs.common.events.envelope import Envelope
from libs.common.events.event import Owner
from libs.common.events.route import BudgetDrawn, Draw, RequestUsage, UsageReported
from libs.common.events.tables import KeyEntry, QuotaEntry
from libs.common.events.tenant import NO_LIMITS
from libs.common.ids import event_id, short_id
from libs.common.key_use import KeyUse
from libs.common.keys import mint
from libs.twin import kinds
from libs.twin.fake_engines import FakeEngines
from libs.twin.objects import name_of
from services.capacity_manager.core.pools import POOL
from services.capacity_manager.core.replacing import ReplaceNode
from services.capacity_manager.core.state import CLAIM
from services.capacity_manager.core.tenancy import is_pool_id
from services.endpoint_api import service as endpoint_api
from services.endpoint_api.core.caller import Ask
from services.endpoint_api.core.catalogue import Catalogue
from services.endpoint_api.core.domains import proof_of, record_of
from services.endpoint_api.core.identity import as_operator
from services.endpoint_api.core.members import MemberKind
from services.endpoint_api.core.proofs import LOOK_EVERY_MS, MISSES_MAX
from services.endpoint_api.core.roles import Role
from services.endpoint_api.core.shown import rfc3339
from services.endpoint_api.shell.api import Api
from services.endpoint_api.shell.auth import Authenticator
from services.endpoint_api.shell.catalogue import read_catalogue
from services.endpoint_api.shell.dispatching import Dispatcher
from services.endpoint_api.shell.doors.bus import BusDoor
from services.endpoint_api.shell.owners import Homes
from services.endpoint_api.shell.ports import Ports
from services.endpoint_api.shell.routes.app import create_app
from services.endpoint_api.shell.secrets import Secrets
from services.endpoint_api.shell.sender import Sent
from services.router.core.outside import Obstacle
from services.router.shell.told.key_use import KeyUseReporter
from tests.sim.cloud import DOMAIN
from tests.sim.customers import PROJECT, TENANT
from tests.sim.faults import Faults
from tests.sim.hosts import INSTANCE, ROOT, ApiHost, RouterHost
from tests.sim.world import Simulation

SEED: Final = 3  # Of the clients' chances; any does.
ROUND_MS: Final = 1_000
ROUNDS_MAX: Final = 600
TAKING: Final = "https://taking.example/hook"
GONE: Final = "https://gone.example/hook"
SPEC: Final = {
    "model": "millrace/ngram-1",
    "tier": "l40s-dedicated",
    "region": "eu-1",
    "scaling": {"min": 1, "max": 2, "target_concurrency": 1},
}


class ComputedEntropy:
    """Bytes that differ each time and are the same in each run."""

    def __init__(self) -> None:
        self._count = 0

    def token_bytes(self, count: int) -> bytes:
        """The next ones."""
        self._count += 1
        return (short_id("entropy", str(self._count)) * 8).encode()[-count:]


class Receivers:
    """Of webhooks: one is gone, all others take everything."""

    async def send(self, url: str, headers: Mapping[str, str], body: bytes) -> Sent:
        """What the receiver answers."""
        del headers, body
        return Sent(410 if url == GONE else 204)


class Zones:
    """What DNS says: what a story writes into it."""

    def __init__(self) -> None:
        self.said: dict[str, tuple[str, ...]] = {}

    def texts(self, name: str) -> tuple[str, ...]:
        """The texts of a name."""
        return self.said.get(name, ())


class Stage:
    """Where a story plays: the provider, and a customer at its front door."""

    def __init__(self, words: str = "", instead: str = "") -> None:
        """``instead`` stands in the catalogue where it has ``words``."""
        self.sim = Simulation(SEED)
        self.sim.faults = self.sim.faults_drawn = Faults.none()
        self.sim.checkers = ()
        host = self.sim.hosts[Owner.ENDPOINT_API]
        assert isinstance(host, ApiHost)
        entropy = ComputedEntropy()
        self.zones = Zones()
        ports = Ports(host.store, self.sim.clock, a_catalogue(words, instead), entropy, dns=self.zones)
        self.service = service = endpoint_api.build(ports)
        key = mint(entropy)
        self.api = api = Api(service, ports)
        api.keys.record(
            key.plaintext, tenant_id=TENANT, project_id=PROJECT, name="first", scopes=["inference", "manage", "read"]
        )
        api.tenants.adopt(TENANT, PROJECT)
        self._ports = ports
        self._door = BusDoor(service, api, ports)
        self._commands = 0
        door = create_app(api, Authenticator(service, ports), entropy=entropy)
        self._client = TestClient(door, headers={"authorization": f"Bearer {key.plaintext}"})

    def ask(self, method: str, path: str, body: Mapping[str, object] | None = None) -> dict[str, Any]:
        """A customer's request that is accepted."""
        answer = self._client.request(method, path, json=body)
        assert answer.is_success, answer.text
        found: dict[str, Any] = answer.json()
        return found

    def command(self, kind: type[cmd.Command], **more: object) -> None:
        """A frontend's command; it is answered on the bus, whatever is answered."""
        self._commands += 1
        asked = kind.model_validate(
            {"tenant_id": TENANT, "project_id": PROJECT, "actor": "jane@initech.example", **more}
        )
        id = f"from-frontend-{self._commands}"
        headers = cmd.headers_of(asked, id, time=rfc3339(self.sim.clock.now_ms()), source="/frontend")
        body = asked.model_dump_json(exclude_unset=True).encode()
        answer = self._door.deliver(Delivery(Message(id, CMD, cmd.subject_of(asked, id), body, headers), CMD))
        assert isinstance(answer, Ack), answer

    def use(self, key_id: str) -> None:
        """The router lets a key in, and tells that."""
        use, clock = KeyUse(), self.sim.clock
        use.note(key_id, clock.now_ms())
        reporter = KeyUseReporter(use, clock, instance=INSTANCE, boot_id="b1")

        async def publish(messages: Sequence[Message]) -> int:
            return self.sim.publish(messages)

        assert asyncio.run(reporter.round(publish)) == 1

    def key_entries(self) -> list[KeyEntry]:
        """The keys as routers hear of them."""
        puts = self._ports.store.puts()
        return [KeyEntry.model_validate_json(each.body) for each in puts if each.subject.startswith(f"$KV.{KEYS}.")]

    def notify(self) -> None:
        """One round of deliveries to webhooks."""

        async def deliver() -> None:
            store, entropy = self._ports.store, self._ports.entropy
            homes = Homes(self.service.runner("endpoint"))
            dispatcher = Dispatcher(
                self.service.runner("webhook"), store, self.sim.clock, Secrets(store, entropy), Receivers(), homes
            )
            await dispatcher.round()
            await dispatcher.settle()

        asyncio.run(deliver())

    def create(self, name: str = "chat", spec: Mapping[str, object] = SPEC) -> str:
        """Ask for an endpoint; its id."""
        return str(self.ask("POST", "/v1/endpoints", {"name": name, "spec": spec})["endpoint_id"])

    def stage_of(self, endpoint_id: str) -> str:
        """Where it stands, as its tenant sees it."""
        return str(self.ask("GET", f"/v1/endpoints/{endpoint_id}")["status"]["stage"])

    def until(self, holds: Callable[[], bool]) -> None:
        """Let time pass until it holds."""
        for _ in range(ROUNDS_MAX):
            if holds():
                return
            self.sim._heal_round(ROUND_MS)
        raise AssertionError("it never came to hold")

    def until_stage(self, endpoint_id: str, stage: str) -> None:
        """Let time pass until an endpoint is there."""
        self.until(lambda: self.stage_of(endpoint_id) == stage)

    def rounds(self, count: int) -> None:
        """Let time pass."""
        for _ in range(count):
            self.sim._heal_round(ROUND_MS)

    def replace(self, holder: str, node: str) -> None:
        """An operator asks for another machine in place of a node, of an endpoint or of a pool."""
        order = ReplaceNode(node=node, reason="driver 570", actor="operator:jane")
        holders = self.sim.hosts[Owner.CAPACITY_MANAGER].runner(POOL if is_pool_id(holder) else CLAIM)
        cause = event_id(holder, f"replace {node}", 0)
        holders.take(holder, Envelope(cause, order, subject=holder, time_ms=self.sim.clock.now_ms()))

    def nodes(self) -> list[str]:
        """The node claims that stand."""
        return sorted(name_of(each) for each in self.sim.twin.store.all(kinds.NODE_CLAIMS))

    def end(self, endpoint_id: str) -> None:
        """Delete it, and let everybody come to rest."""
        self.ask("DELETE", f"/v1/endpoints/{endpoint_id}")
        self.until_stage(endpoint_id, "deleted")
        self.rounds(40)  # Billing windows close a while after the last that fell into them.


def a_catalogue(words: str, instead: str) -> Catalogue:
    """The shipped one, but for these words."""
    with tempfile.TemporaryDirectory() as folder:
        for file in (ROOT / "deploy" / "catalogue").iterdir():
            text = file.read_text()
            (Path(folder) / file.name).write_text(text.replace(words, instead) if words else text)
        return read_catalogue(Path(folder))


def served() -> Stage:
    """Comes up, serves more than one replica can, loses its engine, has it back, is deleted; a key comes and goes."""
    stage = Stage()
    key = stage.ask("POST", "/v1/keys", {"name": "backend", "scopes": ["inference"]})
    endpoint_id = stage.create()
    stage.until_stage(endpoint_id, "ready")
    for _ in range(120):
        stage.sim.traffic.act()
        stage.sim.clock.advance(100)
        if stage.sim.chance.random() < 0.3:
            stage.sim._heal_round(0)
    engines = stage.sim.twin.engines
    assert isinstance(engines, FakeEngines)
    for each in engines.running():
        engines.crash(each.address, stage.sim.clock.now_ms())
    stage.until_stage(endpoint_id, "degraded")
    stage.until_stage(endpoint_id, "ready")
    stage.ask("DELETE", f"/v1/keys/{key['id']}")
    stage.end(endpoint_id)
    return stage


def waits() -> Stage:
    """Waits for capacity that others hold, gets it, comes up, and is deleted."""
    stage = Stage()
    stage.sim.twin.set_faults({"no_capacity": True})
    endpoint_id = stage.create()
    stage.rounds(5)
    stage.sim.twin.set_faults({"no_capacity": False})
    stage.until_stage(endpoint_id, "ready")
    stage.end(endpoint_id)
    return stage


def shared() -> Stage:
    """Comes up in a cluster that all may share, and is deleted; the cluster's nodes are its pool's."""
    stage = Stage()
    endpoint_id = stage.create(spec={**SPEC, "tier": "l40s-shared"})
    stage.until_stage(endpoint_id, "ready")
    stage.end(endpoint_id)
    stage.rounds(60)
    return stage


def drawn() -> Stage:
    """Two come to one pool, the second to a node that stands warm: how many should stand warm is told."""
    stage = Stage()
    for name in ("first", "second"):
        endpoint_id = stage.create(name, spec={**SPEC, "tier": "l40s-shared"})
        stage.until_stage(endpoint_id, "ready")
        stage.rounds(30)
    for name in ("first", "second"):
        stage.end(str(stage.ask("GET", f"/v1/endpoints/{name}")["id"]))
    stage.rounds(60)
    return stage


def stored() -> Stage:
    """Its weights lie on a volume that outlives its pods: how large it is is told, and that it is gone."""
    stage = Stage()
    shipped = stage.sim.templates
    with_volume = replace(shipped["vllm@1"], claim=shipped["vllm-openai@1"].claim)
    stage.sim.templates = {**shipped, "vllm@1": with_volume}
    stage.sim.hosts[Owner.RUNTIME_DEPLOYER].boot()
    endpoint_id = stage.create(spec={**SPEC, "template": "vllm@1"})
    stage.until_stage(endpoint_id, "ready")
    stage.end(endpoint_id)
    return stage


def cached() -> Stage:
    """Its weights stay on a volume for the next replica, which downloads nothing; with the volume they are gone."""
    stage = Stage()
    shipped = stage.sim.templates
    with_cache = replace(shipped["vllm@1"], claim=shipped["vllm-openai@2"].claim, cache=shipped["vllm-openai@2"].cache)
    stage.sim.templates = {**shipped, "vllm@1": with_cache}
    stage.sim.hosts[Owner.RUNTIME_DEPLOYER].boot()
    endpoint_id = stage.create(spec={**SPEC, "template": "vllm@1"})
    stage.until_stage(endpoint_id, "ready")
    stage.ask("PATCH", f"/v1/endpoints/{endpoint_id}", {"spec": {"scaling": {"min": 2, "max": 2}}})
    stage.until(lambda: stage.ask("GET", f"/v1/endpoints/{endpoint_id}")["status"]["replicas"]["ready"] == 2)
    stage.end(endpoint_id)
    return stage


def no_template() -> Stage:
    """Can never have a cluster, because the Platform has no such template: fails, and gives everything back."""
    stage = Stage("inference-l40s@1.0.0", "inference-l40s@9.9.9")
    endpoint_id = stage.create()
    stage.until_stage(endpoint_id, "failed")
    stage.end(endpoint_id)
    return stage


def broken_model() -> Stage:
    """Gets its GPUs, but the model that comes is not the one that was ordered: fails, and gives everything back."""
    stage = Stage()
    stage.sim.twin.set_faults({"digest_mismatch": True})
    endpoint_id = stage.create()
    stage.until_stage(endpoint_id, "failed")
    stage.end(endpoint_id)
    return stage


def downloaded() -> Stage:
    """A model so large that it is seen how much of it is there; comes up, and is deleted."""
    stage = Stage("1073741824", "1099511627776")
    endpoint_id = stage.create(spec={**SPEC, "model": "millrace/ngram-1-large"})
    stage.until_stage(endpoint_id, "ready")
    stage.end(endpoint_id)
    return stage


def reached() -> Stage:
    """A frontend asks over the bus; of two webhooks one is tried, the other's receiver is gone; a key is rotated."""
    stage = Stage()
    taking, gone = (stage.ask("POST", "/v1/webhooks", {"url": url})["webhook"]["id"] for url in (TAKING, GONE))
    key = stage.ask("POST", "/v1/keys", {"name": "backend", "scopes": ["inference"]})
    stage.use(key["id"])
    stage.ask("POST", f"/v1/keys/{key['id']}/rotate", {"overlap_s": 60})
    stage.command(cmd.CreateEndpoint, name="chat", spec=SPEC)
    endpoint_id = stage.ask("GET", "/v1/endpoints/chat")["id"]
    stage.ask("POST", f"/v1/webhooks/{taking}/test")
    stage.notify()
    assert stage.ask("GET", f"/v1/webhooks/{gone}")["disabled"] == "receiver_gone"
    assert not stage.ask("GET", f"/v1/webhooks/{taking}")["disabled"]
    stage.until_stage(endpoint_id, "ready")
    stage.command(cmd.ScaleEndpoint, endpoint="no-such-endpoint", scaling={"max": 2})
    stage.command(cmd.DeleteEndpoint, endpoint="chat")
    stage.until_stage(endpoint_id, "deleted")
    stage.rounds(40)
    return stage


def changed() -> Stage:
    """A tenant is made with a project and a member; its endpoint comes up, pauses, comes back and is deleted."""
    stage = Stage()
    operator = as_operator("root", "", None)
    stage.api.tenants.create(
        Ask(operator, "make"), "hooli", display_name="Hooli", tiers=[], quota=NO_LIMITS, projects=["main"]
    )
    acting = as_operator("root", "hooli", stage.service.runner("tenant").state("hooli"))
    stage.api.members.put(
        Ask(acting, "add"), kind=MemberKind.PERSON, subject="jane@hooli.test", role=Role.OWNER, project_id=""
    )
    endpoint_id = stage.create()
    stage.until_stage(endpoint_id, "ready")
    stage.ask("POST", f"/v1/endpoints/{endpoint_id}/pause")
    stage.until_stage(endpoint_id, "paused")
    stage.ask("POST", f"/v1/endpoints/{endpoint_id}/resume")
    stage.until_stage(endpoint_id, "ready")
    stage.end(endpoint_id)
    return stage


def spent() -> Stage:
    """A project has a budget of tokens: a router draws on it until it is spent."""
    stage = Stage()
    endpoint_id = stage.create()
    stage.until_stage(endpoint_id, "ready")
    budget, period = f"{TENANT}.{PROJECT}", "2027-01"
    entry = QuotaEntry(tenant_id=TENANT, tokens_per_month=10_000)
    stage.sim.limits.change(budget, entry.model_dump_json().encode())
    for number, (tokens, needs) in enumerate(((0, 2_000), (6_000, 9_000), (9_600, 10_400)), start=1):
        draw = Draw(budget=budget, period=period, spent=tokens, returned=0, needs=needs, wants=needs)
        news = BudgetDrawn(instance=INSTANCE, boot_id="b1", draws=(draw,))
        told = Envelope(event_id(INSTANCE, "draw", number), news, subject=INSTANCE, time_ms=stage.sim.clock.now_ms())
        assert stage.sim.publish([message_of(told)]) == 1
        stage.rounds(3)
    stage.end(endpoint_id)
    return stage


def warned() -> Stage:
    """A key has a budget in tokens: when half of it is spent, the project's webhook hears of it."""
    stage = Stage()
    webhook = stage.ask("POST", "/v1/webhooks", {"url": TAKING, "events": ["budget.*"]})["webhook"]["id"]
    key = stage.ask("POST", "/v1/keys", {"name": "ci", "scopes": ["inference"], "tokens_per_month": 10_000})
    entry = next(each for each in stage.key_entries() if each.key_id == key["id"])
    stage.sim.limits.keyring.change(entry.key_id, entry)
    endpoint_id = stage.create()
    stage.until_stage(endpoint_id, "ready")
    draw = Draw(budget=entry.budget, period="2027-01", spent=5_200, returned=0, needs=6_000, wants=6_000)
    news = BudgetDrawn(instance=INSTANCE, boot_id="b1", draws=(draw,))
    told = Envelope(event_id(INSTANCE, "draw", 1), news, subject=INSTANCE, time_ms=stage.sim.clock.now_ms())
    assert stage.sim.publish([message_of(told)]) == 1
    stage.rounds(5)
    stage.notify()
    assert stage.ask("GET", f"/v1/webhooks/{webhook}/deliveries")["items"][0]["type"] == "budget.warned"
    stage.end(endpoint_id)
    return stage


def unseen() -> Stage:
    """Is warm while its address has no name yet: waits, says why, and is ready when the name is there."""
    stage = Stage()
    router = stage.sim.hosts[Owner.ROUTER]
    assert isinstance(router, RouterHost)
    router.obstacle = Obstacle.NAME
    endpoint_id = stage.create()
    stage.until_stage(endpoint_id, "publishing_route")
    stage.rounds(5)
    assert stage.ask("GET", f"/v1/endpoints/{endpoint_id}")["status"]["reason"] == "DnsNotReady"
    router.obstacle = Obstacle.NONE
    stage.until_stage(endpoint_id, "ready")
    stage.end(endpoint_id)
    return stage


def cut_short() -> Stage:
    """A pause ends an answer at its drain deadline: the ledger has it, and the operation's receipt."""
    stage = Stage()
    endpoint_id = stage.create()
    stage.until_stage(endpoint_id, "ready")
    made_ms = stage.sim.clock.now_ms()
    operation = stage.ask("POST", f"/v1/endpoints/{endpoint_id}/pause")["id"]
    stage.until_stage(endpoint_id, "paused")
    answer = a_row("req-cut", tenant_id=TENANT, project_id=PROJECT, endpoint_id=endpoint_id, started_ms=made_ms)
    news = UsageReported(instance="router-9", boot_id="b1", boot_seq=1, requests=(answer,))
    told = Envelope(event_id("router-9", "usage", 1), news, subject="router-9", time_ms=stage.sim.clock.now_ms())
    assert stage.sim.publish([message_of(told)]) == 1
    stage.rounds(5)
    assert stage.ask("GET", f"/v1/operations/{operation}")["receipt"][0]["request_id"] == "req-cut"
    stage.ask("POST", f"/v1/endpoints/{endpoint_id}/resume")
    stage.until_stage(endpoint_id, "ready")
    stage.end(endpoint_id)
    return stage


def a_row(request_id: str, *, tenant_id: str, project_id: str, endpoint_id: str, started_ms: int) -> RequestUsage:
    """The bill of an answer of the first generation that was cut."""
    return RequestUsage(
        request_id=request_id,
        tenant_id=tenant_id,
        project_id=project_id,
        endpoint_id=endpoint_id,
        generation=1,
        model="millrace/ngram-1",
        tier="l40s-dedicated",
        region="eu-1",
        key_id="abcdefghij",
        api="chat",
        prompt_tokens=10,
        completion_tokens=812,
        token_source="checkpoint",
        finish="drain_cut",
        started_ms=started_ms,
        first_token_ms=started_ms + 100,
        ended_ms=started_ms + 1_500,
    )


def aged() -> Stage:
    """Its node falls behind its pool, its pool is resized by another hand, its node is replaced, and one is lost."""
    stage = Stage()
    endpoint_id = stage.create()
    stage.until_stage(endpoint_id, "ready")
    stage.sim.twin.set_faults({"drifted_nodes": 1})
    stage.rounds(3)
    store = stage.sim.twin.store
    (instance,) = store.all(kinds.INSTANCES)
    text = instance["spec"]["parameters"].replace("gpuQuantity: 1", "gpuQuantity: 2")
    store.edit(kinds.INSTANCES, instance, lambda fresh: fresh["spec"].update(parameters=text))
    stage.rounds(10)
    (node,) = stage.nodes()
    stage.replace(endpoint_id, node)
    stage.until(lambda: len(stage.nodes()) == 1 and stage.nodes() != [node])
    stage.rounds(20)
    stage.sim.twin.set_faults({"lost_nodes": 1})
    stage.until_stage(endpoint_id, "degraded")
    stage.until_stage(endpoint_id, "ready")
    stage.end(endpoint_id)
    return stage


def moved() -> Stage:
    """A node of a cluster that all may share is replaced: everybody who is in it is told that it drains."""
    stage = Stage()
    ids = [stage.create(name, {**SPEC, "tier": "l40s-shared"}) for name in ("chat", "draft")]
    for each in ids:
        stage.until_stage(each, "ready")
    stage.rounds(3)
    node, *_ = old = stage.nodes()
    stage.replace("sc-l40s-shared-eu-1", node)
    stage.until(lambda: node not in stage.nodes() and len(stage.nodes()) == len(old))
    stage.rounds(20)
    for each in ids:
        stage.end(each)
    stage.rounds(60)
    return stage


def named() -> Stage:
    """A domain is proved, its proof goes and comes back; an endpoint is called by a name below it, and is deleted."""
    stage = Stage()
    proof = {record_of(DOMAIN): (proof_of(DOMAIN, TENANT),)}
    stage.zones.said.update(proof)
    stage.ask("POST", "/v1/domains", {"domain": DOMAIN})
    stage.zones.said.clear()
    for _ in range(MISSES_MAX):
        stage.sim.clock.advance(2 * LOOK_EVERY_MS)
        stage.api.proofs.run()
    assert stage.ask("GET", f"/v1/domains/{DOMAIN}")["status"] == "lapsing"
    stage.zones.said.update(proof)
    stage.ask("POST", "/v1/domains", {"domain": DOMAIN})
    endpoint_id = stage.create(spec={**SPEC, "hostname": f"api.{DOMAIN}"})
    stage.until_stage(endpoint_id, "ready")
    stage.end(endpoint_id)
    return stage


STORIES: Final[Mapping[str, Callable[[], Stage]]] = {
    "served": served,
    "waits": waits,
    "shared": shared,
    "no_template": no_template,
    "broken_model": broken_model,
    "downloaded": downloaded,
    "changed": changed,
    "reached": reached,
    "spent": spent,
    "warned": warned,
    "drawn": drawn,
    "stored": stored,
    "cached": cached,
    "unseen": unseen,
    "cut_short": cut_short,
    "aged": aged,
    "moved": moved,
    "named": named,
}
