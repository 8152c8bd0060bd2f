"""vCluster Platform as the reconciler sees it: look at one claim's objects, or do one thing to them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final, assert_never

from libs.common.errors import Rejected, Unavailable
from libs.common.events.endpoint import NodeChoice
from services.capacity_manager.core.choosing import classes_of
from services.capacity_manager.core.holdings import NodeClass
from services.capacity_manager.core.node_actions import CordonNode, RetireNode, RollTemplate
from services.capacity_manager.core.observed import NodeTypeSeen, Observed, ProjectSeen
from services.capacity_manager.core.orphans import Found, PoolStanding, Standing, Survey
from services.capacity_manager.core.plan import (
    Action,
    DeleteCluster,
    DropShare,
    EnsureCluster,
    EnsureProject,
    LetNodeGo,
    ResizeCluster,
    SetShare,
    SetWarm,
)
from services.capacity_manager.core.pools import Pool, PoolFound, PoolSeen
from services.capacity_manager.core.question import question_of
from services.capacity_manager.core.reasons import Reason
from services.capacity_manager.core.state import Claim
from services.capacity_manager.core.tenancy import Home, home_of
from services.capacity_manager.shell.platform import guests, inside, labels, readings, shares, sharing, tending
from services.capacity_manager.shell.platform.client import PlatformClient, garbled
from services.capacity_manager.shell.platform.publishing import Publisher
from services.capacity_manager.shell.platform.refusals import is_already_there
from services.capacity_manager.shell.platform.shares import Share
from services.capacity_manager.shell.platform.surveying import Surveyor
from services.capacity_manager.shell.templates import Templates

Json = dict[str, Any]

API: Final = "management.loft.sh/v1"
MANAGEMENT: Final = f"/kubernetes/management/apis/{API}"
PROJECTS: Final = f"{MANAGEMENT}/projects"
NODE_TYPES: Final = f"{MANAGEMENT}/nodetypes"
SELVES: Final = f"{MANAGEMENT}/selves"
INSTANCES_EVERYWHERE: Final = f"{MANAGEMENT}/virtualclusterinstances"
CLAIMS_EVERYWHERE: Final = f"{MANAGEMENT}/nodeclaims"
NO_TEMPLATES: Final[Templates] = {}
LEGACY_PREFIX: Final = "loft-p-"  # What a null prefix means (platform.md 1.4).


@dataclass(frozen=True, slots=True)
class Who:
    """Who we are to the Platform, what it calls itself, and what it puts before a project's name for its namespace."""

    user: str
    host: str
    prefix: str


class Platform:
    """The `World` of claims."""

    def __init__(
        self, client: PlatformClient, *, templates: Templates = NO_TEMPLATES, installation: str = "millrace"
    ) -> None:
        self._client = client
        self._publisher = Publisher(client, templates)
        self._who: Who | None = None
        self._installation = installation
        self._surveyor = Surveyor(client, self.namespace_prefix)

    def survey(self) -> Survey:
        """Everything of ours at a glance. Raises Unavailable."""
        return self._surveyor.survey()

    def classes(self) -> tuple[NodeClass, ...]:
        """Every node type. Raises Unavailable."""
        return self._surveyor.classes()

    def found(self, each: Standing) -> Found | None:
        """A closer look at one cluster; None if it is gone. Raises Unavailable."""
        return self._surveyor.found(each)

    def observe(self, claim: Claim) -> Observed:
        """What the Platform holds of the claim. Raises Unavailable where any part of the answer is unknown.

        A project that is itself absent has no namespace, and holds nothing.
        """
        with _as_the_api_has_it():
            return self._observe(claim)

    def observe_pool(self, pool: Pool, warm: int) -> PoolSeen:
        """What the Platform holds of a pool that is to have so many warm nodes. Raises Unavailable as `observe`."""
        with _as_the_api_has_it():
            project = self._client.get(PROJECTS, pool.project)
            if project is None:
                return PoolSeen(look=pool.look, cluster=None)
            paths = sharing.Paths(self._instances(pool.project), self._claims(pool.project), NODE_TYPES)
            return sharing.look(self._client, pool, warm, paths)

    def pool_found(self, each: PoolStanding) -> PoolFound | None:
        """A closer look at a shared cluster of the survey; None if it is gone. Raises Unavailable."""
        return self._surveyor.pool_found(each)

    def apply(self, action: Action) -> None:
        """Do one thing; doing it again changes nothing."""
        with _as_the_api_has_it():
            self._apply(action)

    def _observe(self, claim: Claim) -> Observed:
        question = question_of(claim)
        home = home_of(claim)
        project, cluster = home.project, home.cluster
        wanted_classes = claim.classes if question.room and claim.reservation is None else ()
        types = self._node_types(claim, wanted_classes) if question.room else {}
        node_type = types.get(claim.placement.node_type) if claim.placement is not None else None
        classes = tuple(types[each.node_type] for each in wanted_classes)
        project_seen = self._project(claim, home)
        if project_seen is None:
            return Observed(question=question, project=None, cluster=None, node_type=node_type, classes=classes)
        instance = self._client.get(self._instances(project), cluster)
        wanted = labels.of_cluster(
            tenant_id=home.tenant_id, project_id=home.project_id, endpoint_id="" if home.is_shared else claim.id
        )
        sharer = claim.id if home.is_shared else ""
        seen = readings.cluster_seen(instance, wanted=wanted, sharer=sharer) if instance else None
        nodes = readings.nodes_seen(self._client.list(self._claims(project)), cluster=cluster)
        found = inside.look(self._client, home, question, seen, nodes)
        return Observed(
            question=question,
            project=project_seen,
            cluster=seen,
            nodes=nodes,
            node_type=node_type,
            classes=classes,
            gpu_nodes=found.gpu_nodes,
            machines=found.machines,
            pods=found.pods,
            by_hand=found.by_hand,
        )

    def _apply(self, action: Action) -> None:
        match action:
            case EnsureProject():
                self._ensure_project(action)
            case EnsureCluster():
                self._ensure_cluster(action)
            case ResizeCluster():
                self._resize(action)
            case LetNodeGo():
                sharing.insist_on_nobody(self._client, self._instances(action.project), action)
                guests.let_go(self._client, action)
            case SetShare() | SetWarm() | DropShare() | DeleteCluster():
                sharing.apply(self._client, self._instances(action.project), action)
            case CordonNode() | RetireNode() | RollTemplate():
                tending.apply(self._client, self._instances(action.project), self._publisher, action)
            case _:
                assert_never(action)

    def who(self) -> Who:
        """Who we are; asked once, and it checks our key. Raises Unavailable if the key is refused."""
        if self._who is None:
            status = self._client.create(SELVES, {"apiVersion": API, "kind": "Self"}).get("status")
            if not isinstance(status, dict):
                raise garbled("the Platform does not say who we are")
            prefix = status.get("projectNamespacePrefix")
            self._who = Who(
                user=str(_dict(status.get("user")).get("name") or _dict(status.get("team")).get("name") or ""),
                host=str(status.get("loftHost") or ""),
                prefix=LEGACY_PREFIX if prefix is None else str(prefix),
            )
        return self._who

    def namespace_prefix(self) -> str:
        """What the Platform puts before a project's name to name its namespace."""
        return self.who().prefix

    def _project(self, claim: Claim, home: Home) -> ProjectSeen | None:
        project = self._client.get(PROJECTS, home.project)
        if project is None:
            return None
        wanted = labels.of_project(tenant_id=home.tenant_id, project_id=home.project_id)
        if claim.is_unwanted or claim.placement is None or claim.spec is None:
            is_ours = labels.of(project).get(labels.MANAGED_BY) == labels.MILLRACE
            return ProjectSeen(is_ours=is_ours, is_as_wanted=is_ours)
        allowed = labels.allowed_for(claim.classes or classes_of(claim.placement), claim.spec.region)
        return readings.project_seen(project, wanted=wanted, allowed=allowed)

    def _node_types(self, claim: Claim, classes: Sequence[NodeChoice]) -> Mapping[str, NodeTypeSeen]:
        """The claim's own node type and those of its classes; each is asked for once."""
        own = (claim.placement.node_type,) if claim.placement is not None else ()
        names = dict.fromkeys((*own, *(each.node_type for each in classes)))
        return {name: readings.node_type_seen(self._client.get(NODE_TYPES, name)) for name in names}

    def _ensure_project(self, wanted: EnsureProject) -> None:
        mine = labels.of_project(tenant_id=wanted.tenant_id, project_id=wanted.project_id)
        allowed = labels.allowed_for(wanted.classes, wanted.region)
        found = self._client.get(PROJECTS, wanted.name)
        if found is None:
            body = _object("Project", wanted.name, mine, {"displayName": wanted.name, **labels.spec_of(allowed)})
            found = self._create_or_adopt(PROJECTS, wanted.name, body, mine)
        _insist_on_ours(found, mine, wanted.name)
        spec = labels.widened(found, allowed)
        if spec:
            self._client.merge(PROJECTS, wanted.name, {"metadata": _version(found), "spec": spec})

    def _ensure_cluster(self, wanted: EnsureCluster) -> None:
        mine = labels.of_cluster(
            tenant_id=wanted.tenant_id,
            project_id=wanted.project_id,
            endpoint_id=wanted.endpoint_id if wanted.share is None else "",
        )
        marks = {
            **mine,
            labels.TIER: wanted.tier,
            labels.REGION: wanted.region,
            labels.INSTALLATION: self._installation,
            **({labels.GENERATION: str(wanted.generation)} if wanted.share is None else {}),
        }
        template = {"name": wanted.template}
        if wanted.template_version:
            template["version"] = wanted.template_version
        spec: Json = {
            "displayName": wanted.endpoint_id if wanted.share is None else wanted.name,
            "templateRef": template,
            "clusterRef": {"cluster": wanted.region},
            "parameters": readings.sized({}, wanted.node_type, wanted.nodes),
        }
        body = _object("VirtualClusterInstance", wanted.name, marks, spec)
        self._publisher.publish(wanted.template, wanted.template_version)
        body["metadata"]["namespace"] = self._namespace(wanted.project)
        if wanted.share is not None:
            share = Share(wanted.share, wanted.generation)
            body["metadata"]["annotations"] = shares.written({wanted.endpoint_id: share})
        self._create_or_adopt(self._instances(wanted.project), wanted.name, body, mine)

    def _resize(self, wanted: ResizeCluster) -> None:
        """Change the pool's size on the version that was read, unless a newer generation wrote it."""
        path = self._instances(wanted.project)
        found = self._client.get(path, wanted.name)
        if found is None or readings.generation_of(found) > wanted.generation:
            raise Unavailable(f"{wanted.name} has changed hands since it was seen", code=Reason.PLATFORM_CONFLICT)
        text = readings.sized(readings.parameters(found), wanted.node_type, wanted.nodes)
        metadata: Json = {**_version(found), "labels": {labels.GENERATION: str(wanted.generation)}}
        if wanted.warm != shares.warm_of(found):
            metadata["annotations"] = shares.warmed(wanted.warm)
        self._client.merge(path, wanted.name, {"metadata": metadata, "spec": {"parameters": text}})

    def _create_or_adopt(self, path: str, name: str, body: Json, mine: labels.Labels) -> Json:
        """Create an object, or take the one that is there if its labels say that an earlier try of ours made it."""
        try:
            return self._client.create(path, body)
        except Unavailable as failure:
            if not is_already_there(failure):
                raise
            found = self._client.get(path, name)
            if found is None:
                raise
            _insist_on_ours(found, mine, name)
            return found

    def _instances(self, project: str) -> str:
        return f"{MANAGEMENT}/namespaces/{self._namespace(project)}/virtualclusterinstances"

    def _claims(self, project: str) -> str:
        return f"{MANAGEMENT}/namespaces/{self._namespace(project)}/nodeclaims"

    def _namespace(self, project: str) -> str:
        return self.namespace_prefix() + project


@contextmanager
def _as_the_api_has_it() -> Iterator[None]:
    """A list where an object belongs, a number where a text does: then what is there is unknown."""
    try:
        yield
    except (AttributeError, KeyError, TypeError, ValueError) as wrong:
        raise garbled(f"an object of the Platform has another shape than its API's ({wrong})") from wrong


def _dict(value: object) -> Json:
    return value if isinstance(value, dict) else {}


def _object(kind: str, name: str, marks: labels.Labels, spec: Json) -> Json:
    return {"apiVersion": API, "kind": kind, "metadata": {"name": name, "labels": dict(marks)}, "spec": spec}


def _version(found: Json) -> Json:
    return {"resourceVersion": found["metadata"]["resourceVersion"]}


def _insist_on_ours(found: Json, mine: labels.Labels, name: str) -> None:
    if not labels.are_in(mine, found):
        raise Rejected(f"{name} belongs to another owner; it was left alone", code=Reason.NAME_TAKEN)
