"""``python -m services.router.shell.gateways tenant --hostname api.acme.example …``: the objects of a door, to apply.

Prints YAML for `kubectl apply -f -`; with ``--router`` left out the door lets nobody through. ``--tier`` in place of a
mode takes the one that the tier catalogue says. The nodes that a bridge leads to are those that are Ready in what
`kubectl get nodes -o json` said in the tenant's cluster: ``--nodes -``.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import yaml
from pydantic import BaseModel, Field, ValidationError

from libs.common.errors import Invalid
from services.router.core.gateways import Door, Mode, Node, addresses_of, objects, problems

EXIT_WRONG = 2
TIERS = "tiers.yaml"


class _Said(BaseModel):
    type: str
    status: str = ""
    address: str = ""


class _Status(BaseModel):
    conditions: tuple[_Said, ...] = ()
    addresses: tuple[_Said, ...] = ()


class _Node(BaseModel):
    status: _Status = _Status()

    def seen(self) -> Node:
        """What of it counts."""
        internal = [each.address for each in self.status.addresses if each.type == "InternalIP"]
        is_ready = any((each.type, each.status) == ("Ready", "True") for each in self.status.conditions)
        return Node(internal[0] if internal else "", is_ready)


class _Nodes(BaseModel):
    items: tuple[_Node, ...]


class _Tier(BaseModel):
    name: str
    route: Mode = Mode.LAYER


class _Tiers(BaseModel):
    tiers: Annotated[tuple[_Tier, ...], Field(min_length=1)]


def main(argv: Sequence[str]) -> int:
    """Print the objects; 2 and one line a field if something is wrong with what was asked for."""
    try:
        door = _asked(argv)
    except Invalid as refused:
        sys.stderr.write(f"{refused}\n")
        return EXIT_WRONG
    wrong = [f"{field}: {what}" for field, what in problems(door)]
    if wrong:
        sys.stderr.write("\n".join(wrong) + "\n")
        return EXIT_WRONG
    sys.stdout.write(yaml.safe_dump_all(objects(door), sort_keys=False))
    return 0


def _asked(argv: Sequence[str]) -> Door:
    parser = argparse.ArgumentParser(prog="gateways", description=__doc__)
    parser.add_argument("mode", type=Mode, choices=list(Mode), nargs="?", help="left out: that of --tier")
    parser.add_argument("--tier", default="", help="a tier of the catalogue, for its route mode")
    parser.add_argument("--catalogue", type=Path, default=Path("deploy/catalogue"), help="where tiers.yaml is")
    parser.add_argument("--hostname", required=True, help="what clients call; may begin with `*.`")
    parser.add_argument("--name", default="millrace")
    parser.add_argument("--namespace", default="inference")
    parser.add_argument("--router", action="append", default=[], help="address of a router; once for each")
    parser.add_argument("--nodes", default="", help="bridge: a file with `kubectl get nodes -o json`; `-`: the input")
    parser.add_argument("--router-port", type=int, default=8800, help="bridge: the NodePort of the routers there")
    parser.add_argument("--gateway-class", default="", help="tenant: the GatewayClass")
    parser.add_argument("--issuer", default="", help="tenant, bridge: cert-manager's ClusterIssuer")
    parser.add_argument("--parent", default="", help="shared, bridge: <namespace>/<name> of the provider's Gateway")
    parser.add_argument("--project", default="", help="bridge: the Platform's project")
    parser.add_argument("--cluster", default="", help="bridge: the tenant cluster in it")
    asked = parser.parse_args(argv)
    nodes = addresses_of(each.seen() for each in _nodes(asked.nodes)) if asked.nodes else ()
    return Door(
        mode=_mode(asked.mode, asked.tier, asked.catalogue),
        hostname=asked.hostname,
        name=asked.name,
        namespace=asked.namespace,
        routers=(*asked.router, *nodes),
        router_port=asked.router_port,
        gateway_class=asked.gateway_class,
        issuer=asked.issuer,
        parent=asked.parent,
        project=asked.project,
        cluster=asked.cluster,
    )


def _mode(asked: Mode | None, tier: str, catalogue: Path) -> Mode:
    """The mode that was asked for, or the tier's. Raises Invalid where there is none, or the two differ."""
    if not tier:
        if asked is None:
            raise Invalid("mode: say one, or a --tier of the catalogue")
        return asked
    path = catalogue / TIERS
    try:
        tiers = _Tiers.model_validate(yaml.safe_load(path.read_bytes())).tiers
    except (OSError, yaml.YAMLError, ValidationError) as wrong:
        raise Invalid(f"--catalogue: {path} can't be read: {' '.join(str(wrong).split())}") from None
    found = next((each for each in tiers if each.name == tier), None)
    if found is None:
        raise Invalid(f"--tier: {path} has no {tier}; it has {', '.join(each.name for each in tiers)}")
    if asked not in (None, found.route):
        raise Invalid(f"mode: {tier} has the route {found.route}, not {asked}; leave one of the two out")
    return found.route


def _nodes(place: str) -> tuple[_Node, ...]:
    try:
        text = sys.stdin.read() if place == "-" else Path(place).read_text(encoding="utf-8")
        return _Nodes.model_validate_json(text).items
    except (OSError, UnicodeDecodeError, ValidationError) as wrong:
        raise Invalid(f"--nodes: not a list of nodes as kubectl has it: {' '.join(str(wrong).split())}") from None


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
