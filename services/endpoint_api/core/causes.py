"""Why an endpoint is not serving: every reason that a service tells, as a cause, ranked, with what may be done."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType
from typing import Final

from libs.common.events.endpoint import EndpointSpec, Stage
from libs.common.events.event import Owner
from libs.common.events.facts import Fact
from services.endpoint_api.core.catalogue import Catalogue, Model, Tier
from services.endpoint_api.core.explain import Why, deadline_ms, is_overdue, why
from services.endpoint_api.core.state import Endpoint, Words

OFFERS_MAX: Final = 5  # More is a catalogue, not advice.


class Code(StrEnum):
    """What is wrong, in order of how much somebody has to act: the first cause listed is the one to look at."""

    QUOTA = "quota"
    MODEL_GATED = "model_gated"
    MODEL_MISSING = "model_missing"
    DOES_NOT_FIT = "does_not_fit"
    IMAGE = "image"
    MODEL_DAMAGED = "model_damaged"
    CONFIGURATION = "configuration"
    TEMPLATE = "template"
    CRASH = "crash"
    ROUTE_CLASH = "route_clash"
    DNS = "dns"
    CERTIFICATE = "certificate"
    ROUTE = "route"
    NO_CAPACITY = "no_capacity"
    NODE = "node"
    CLUSTER = "cluster"
    PLATFORM = "platform"
    DEADLINE = "deadline"
    OTHER = "other"
    WORKING = "working"


US: Final = "operator"
YOU: Final = "you"
CAPACITY: Final = str(Owner.CAPACITY_MANAGER)
RUNTIME: Final = str(Owner.RUNTIME_DEPLOYER)
ROUTER: Final = str(Owner.ROUTER)

# Reason -> what it is, and who can do something about it. A test collects the reasons of all services.
REASONS: Final[Mapping[str, tuple[Code, str]]] = MappingProxyType(
    {
        **dict.fromkeys(("ProjectPending", "ClusterPending", "NodesPending", "GpuPending"), (Code.WORKING, CAPACITY)),
        **dict.fromkeys(("ClusterDeleting", "ConfirmingGone"), (Code.WORKING, CAPACITY)),
        "RuntimePresent": (Code.WORKING, RUNTIME),
        "NoCapacity": (Code.NO_CAPACITY, US),
        "QuotaExceeded": (Code.QUOTA, YOU),
        "ClusterFailed": (Code.CLUSTER, US),
        "NodeFailed": (Code.NODE, US),
        "NodeLost": (Code.NODE, CAPACITY),
        **dict.fromkeys(
            ("PlatformUnavailable", "PlatformThrottled", "PlatformGarbled", "PlatformConflict"),
            (Code.PLATFORM, CAPACITY),
        ),
        **dict.fromkeys(("PlatformUnauthorized", "PlatformForbidden", "PlatformRefused"), (Code.PLATFORM, US)),
        **dict.fromkeys(("TemplateUnknown", "TemplateInvalid", "TemplateNotAllowed"), (Code.TEMPLATE, US)),
        **dict.fromkeys(("NodeTypeUnknown", "NodeTypeMismatch", "NodeTypeNotAllowed"), (Code.NODE, US)),
        **dict.fromkeys(("NameTaken", "LicenceMissing"), (Code.CLUSTER, US)),
        **dict.fromkeys(("ImagePullBackOff", "ImageUnauthorized"), (Code.IMAGE, US)),
        **dict.fromkeys(("InvalidImageName", "ErrImageNeverPull"), (Code.IMAGE, US)),
        **dict.fromkeys(
            ("CreateContainerConfigError", "CreateContainerError", "RunContainerError"), (Code.CONFIGURATION, US)
        ),
        **dict.fromkeys(("DigestMismatch", "SizeMismatch"), (Code.MODEL_DAMAGED, US)),
        **dict.fromkeys(("ModelFetchFailed", "SourceUnreachable"), (Code.MODEL_MISSING, RUNTIME)),
        **dict.fromkeys(("SourceForbidden", "SourceInvalid"), (Code.CONFIGURATION, US)),
        "ModelNotFound": (Code.MODEL_MISSING, YOU),
        "AdapterRefused": (Code.MODEL_MISSING, YOU),
        "ModelGated": (Code.MODEL_GATED, YOU),
        **dict.fromkeys(("DiskTooSmall", "OOMKilled"), (Code.DOES_NOT_FIT, YOU)),
        "CrashLoopBackOff": (Code.CRASH, US),
        "ErrorRate": (Code.CRASH, US),
        "NoReplicaReady": (Code.CRASH, RUNTIME),
        "NodeReplacing": (Code.WORKING, CAPACITY),
        "RouteClash": (Code.ROUTE_CLASH, YOU),
        "DnsNotReady": (Code.DNS, ROUTER),
        "CertificateNotReady": (Code.CERTIFICATE, ROUTER),
        "RouteUnreachable": (Code.ROUTE, ROUTER),
        **dict.fromkeys(("RouteOpen", "RouteNotServed"), (Code.ROUTE, US)),
        "RolloutPaused": (Code.WORKING, YOU),
        "DeadlinePassed": (Code.DEADLINE, US),
    }
)


@dataclass(frozen=True, slots=True)
class Offer:
    """Something that would help: `spec` holds the fields to change, `action` what else to do."""

    action: str
    message: str
    spec: Mapping[str, str | int]


@dataclass(frozen=True, slots=True)
class Cause:
    """One reason why it does not serve: since when, who works on it, and what may be done instead."""

    code: Code
    reason: str
    message: str
    waiting_on: str
    since_ms: int
    offers: tuple[Offer, ...] = ()


def causes_of(endpoint: Endpoint, sold: Catalogue, now_ms: int) -> tuple[Cause, ...]:
    """The causes, the one to look at first; none while it serves or rests. ``sold`` is what its tenant may buy."""
    assert endpoint.spec is not None, endpoint.id
    if endpoint.stage in (Stage.READY, Stage.DELETED, Stage.PAUSED):
        return ()
    found = {each.reason: each for each in _found(endpoint, endpoint.spec, sold, now_ms)}
    return tuple(sorted(found.values(), key=lambda each: list(Code).index(each.code)))


def code_of(reason: str) -> tuple[Code, str]:
    """What a reason is, and who can act; a reason from a newer build is OTHER, and nothing of it is lost."""
    if reason.startswith("Awaiting"):
        return Code.WORKING, ""
    return REASONS.get(reason, (Code.OTHER, ""))


def _found(endpoint: Endpoint, spec: EndpointSpec, sold: Catalogue, now_ms: int) -> Iterator[Cause]:
    since_ms = endpoint.visit.since_ms
    said = why(endpoint)
    of_capacity = said.waiting_on == Owner.CAPACITY_MANAGER or endpoint.facts.holds(Fact.CAPACITY_FAILED)
    yield _cause(said, spec, sold, since_ms, of_capacity=of_capacity)
    if endpoint.stage is Stage.FAILED and endpoint.facts.holds(Fact.DEADLINE_PASSED):
        heard = endpoint.facts.of(Fact.DEADLINE_PASSED)
        message = "a stage took longer than it may"
        yield _cause(Why("DeadlinePassed", message), spec, sold, heard.at_ms if heard else since_ms)
        # What the worker last said is the cause of the lateness.
        if endpoint.waiting is not None:
            yield _cause(_as_why(endpoint.waiting), spec, sold, since_ms, of_capacity=True)
    if endpoint.stage is not Stage.FAILED and is_overdue(endpoint, now_ms):
        due_ms = deadline_ms(endpoint)
        message = f"{said.waiting_on} has taken longer than it should; we look into it"
        yield Cause(Code.DEADLINE, "Overdue", message, US, due_ms if due_ms is not None else since_ms)


def _as_why(words: Words) -> Why:
    return Why(words.reason, words.message)


def _cause(said: Why, spec: EndpointSpec, sold: Catalogue, since_ms: int, *, of_capacity: bool = False) -> Cause:
    code, who = code_of(said.reason)
    makers = OFFERS.get(code, ())
    if of_capacity:  # What it calls a template is the cluster's: another runtime's would not help.
        makers = tuple(each for each in makers if each is not _other_templates)
    offers = tuple(offer for make in makers for offer in make(spec, sold))
    return Cause(code, said.reason, said.message, who or said.waiting_on, since_ms, offers[:OFFERS_MAX])


def _other_regions(spec: EndpointSpec, sold: Catalogue) -> Iterator[Offer]:
    tier = _tier(spec, sold)
    for region in tier.regions if tier else ():
        if region != spec.region:
            message = f"create it in {region}: a region can't be changed later"
            yield Offer("create_anew", message, {"region": region})


def _other_tiers(spec: EndpointSpec, sold: Catalogue) -> Iterator[Offer]:
    model = _model(spec, sold)
    for tier in sold.tiers:
        is_sold = model is not None and tier.name in model.tiers and sold.has_room(model, tier)
        fits = is_sold and spec.scaling.max <= tier.replicas_max
        if fits and tier.name != spec.tier and spec.region in tier.regions:
            yield Offer("create_anew", f"create it on {tier.name} in {spec.region}", {"tier": tier.name})


def _larger_tiers(spec: EndpointSpec, sold: Catalogue) -> Iterator[Offer]:
    """Tiers with more GPUs a replica, or of another kind; the same GPU and as few of them would not fit either."""
    own = _tier(spec, sold)
    for offer in _other_tiers(spec, sold):
        tier = next(each for each in sold.tiers if each.name == offer.spec["tier"])
        if own is None or tier.gpu != own.gpu or tier.gpus_per_replica > own.gpus_per_replica:
            yield offer


def _fewer(spec: EndpointSpec, _sold: Catalogue) -> Iterator[Offer]:
    if spec.scaling.min > 1:
        yield Offer("change_spec", "begin with fewer replicas", {"scaling.min": spec.scaling.min - 1})


def _smaller_most(spec: EndpointSpec, _sold: Catalogue) -> Iterator[Offer]:
    if spec.scaling.max > spec.scaling.min:
        yield Offer("change_spec", "ask for fewer replicas at most", {"scaling.max": spec.scaling.min})


def _freeing(_spec: EndpointSpec, _sold: Catalogue) -> Iterator[Offer]:
    yield Offer("free_quota", "pause or delete an endpoint that holds the quota, or ask for a higher one", {})


def _waiting(_spec: EndpointSpec, _sold: Catalogue) -> Iterator[Offer]:
    yield Offer("wait", "nothing is to be done: it goes on by itself as soon as the platform underneath answers", {})


def _telling(_spec: EndpointSpec, _sold: Catalogue) -> Iterator[Offer]:
    yield Offer("tell_operator", "only the operator can mend this; resume the endpoint when it is mended", {})


def _other_models(spec: EndpointSpec, sold: Catalogue) -> Iterator[Offer]:
    tier = _tier(spec, sold)
    for model in sold.models:
        if model.id != spec.model and tier is not None and tier.name in model.tiers and sold.has_room(model, tier):
            yield Offer("change_spec", f"use {model.id}", {"model": model.id})


def _other_templates(spec: EndpointSpec, sold: Catalogue) -> Iterator[Offer]:
    tier = _tier(spec, sold)
    present = spec.template or (tier.runtime_templates[0] if tier and tier.runtime_templates else "")
    for template in tier.runtime_templates if tier else ():
        if template != present:
            yield Offer("change_spec", f"use the template {template}", {"template": template})


def _tier(spec: EndpointSpec, sold: Catalogue) -> Tier | None:
    return next((each for each in sold.tiers if each.name == spec.tier), None)


def _model(spec: EndpointSpec, sold: Catalogue) -> Model | None:
    return next((each for each in sold.models if each.id == spec.model), None)


OFFERS: Final[Mapping[Code, tuple[Callable[[EndpointSpec, Catalogue], Iterator[Offer]], ...]]] = MappingProxyType(
    {
        Code.NO_CAPACITY: (_fewer, _other_regions, _other_tiers),
        Code.QUOTA: (_freeing, _fewer, _smaller_most, _other_tiers),
        Code.NODE: (_other_regions, _other_tiers),
        Code.CLUSTER: (_other_regions, _other_tiers),
        Code.PLATFORM: (_waiting,),
        Code.CONFIGURATION: (_telling,),
        Code.DEADLINE: (_other_regions, _other_tiers),
        Code.DOES_NOT_FIT: (_larger_tiers, _other_models),
        Code.MODEL_GATED: (_other_models,),
        Code.MODEL_MISSING: (_other_models,),
        Code.MODEL_DAMAGED: (_other_models, _telling),
        Code.TEMPLATE: (_other_templates, _other_tiers),
        Code.IMAGE: (_other_templates, _telling),
        Code.CRASH: (_other_templates, _other_models),
    }
)
