"""``python -m services.router.shell.gateways tenant --hostname api.acme.example …``: the objects of a door, to apply.

Prints YAML for `kubectl apply -f -`; with ``--router`` left out the door lets nobody through.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

import yaml

from services.router.core.gateways import Door, Mode, objects, problems

EXIT_WRONG = 2


def main(argv: Sequence[str]) -> int:
    """Print the objects; 2 and one line a field if something is wrong with what was asked for."""
    door = _asked(argv)
    wrong = [f"{field}: {what}" for field, what in problems(door)]
    if wrong:
        sys.stderr.write("\n".join(wrong) + "\n")
        return EXIT_WRONG
    sys.stdout.write(yaml.safe_dump_all(objects(door), sort_keys=False))
    return 0


def _asked(argv: Sequence[str]) -> Door:
    parser = argparse.ArgumentParser(prog="gateways", description=__doc__)
    parser.add_argument("mode", type=Mode, choices=list(Mode))
    parser.add_argument("--hostname", required=True, help="what clients call; may begin with `*.`")
    parser.add_argument("--name", default="millrace")
    parser.add_argument("--namespace", default="inference")
    parser.add_argument("--router", action="append", default=[], help="address of a router; once for each")
    parser.add_argument("--router-port", type=int, default=8800)
    parser.add_argument("--gateway-class", default="", help="tenant: the GatewayClass")
    parser.add_argument("--issuer", default="", help="tenant: cert-manager's ClusterIssuer for the certificate")
    parser.add_argument("--parent", default="", help="shared: <namespace>/<name> of the Gateway")
    asked = parser.parse_args(argv)
    return Door(
        mode=asked.mode,
        hostname=asked.hostname,
        name=asked.name,
        namespace=asked.namespace,
        routers=tuple(asked.router),
        router_port=asked.router_port,
        gateway_class=asked.gateway_class,
        issuer=asked.issuer,
        parent=asked.parent,
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
