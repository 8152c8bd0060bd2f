"""``python -m services.runtime_deployer.shell.tracing ENDPOINT``: what runs for it. What `millrace trace` runs.

Reads the service's database and changes nothing. One JSON object on standard output; 2: wrong settings, or not known.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from contextlib import closing
from typing import Any, Final

from pydantic import TypeAdapter

from libs.common import settings as reading
from libs.common.errors import MillraceError, NotFound
from libs.common.settings import CommonSettings
from libs.common.store.sql import SqlStore
from services.runtime_deployer.core.lifecycle import stage_of
from services.runtime_deployer.core.manifests import NAMESPACE
from services.runtime_deployer.core.observed import PodSeen
from services.runtime_deployer.core.progress import may_serve
from services.runtime_deployer.core.state import RUNTIME, Runtime

EXIT_USAGE: Final = 2
STATE: Final = TypeAdapter(Runtime)


class Settings(CommonSettings):
    """Of the service's settings, the one that is needed: where its database is."""

    admin_port: int = 0
    nats_url: str = ""


def trace(settings: Settings, endpoint_id: str) -> dict[str, Any]:
    """Cluster, node type, template and pods of an endpoint. Raises NotFound, Unavailable."""
    with closing(SqlStore(settings.database_url)) as store:
        record = store.load(RUNTIME, endpoint_id)
    if record is None:
        raise NotFound(f"nothing was ever asked to run for {endpoint_id}")
    runtime = STATE.validate_json(record.state)
    placement, cluster, template = runtime.placement, runtime.cluster, runtime.template
    return {
        "stage": stage_of(runtime),
        "generation": runtime.generation,
        "platform_project": cluster.platform_project if cluster else "",
        "cluster": cluster.name if cluster else "",
        "namespace": NAMESPACE,
        "tenancy": placement.tenancy if placement else "",
        "node_type": placement.node_type if placement else "",
        "gpus_per_replica": placement.gpus_per_replica if placement else 0,
        "template": template.key if template else "",
        "image": template.engine_image if template else "",
        "model": runtime.model,
        "model_digest": placement.model_digest if placement else "",
        "recipe": runtime.recipe,
        "delay": runtime.delay,
        "pods": [_pod(each, runtime) for each in (runtime.seen.pods if runtime.seen else ())],
    }


def _pod(pod: PodSeen, runtime: Runtime) -> dict[str, Any]:
    return {
        "name": pod.name,
        "node": pod.node,
        "url": f"http://{pod.ip}:{pod.port}" if pod.ip else "",
        "recipe": pod.recipe,
        "is_newest": pod.recipe == runtime.recipe,
        "serves": may_serve(pod, runtime),
        "terminating": pod.terminating,
        "adapters": [each.name for each in pod.adapters],
        "restarts": pod.engine.restarts if pod.engine else 0,
    }


def main(argv: Sequence[str]) -> int:
    """Print it."""
    parser = argparse.ArgumentParser(prog="tracing", description=__doc__)
    parser.add_argument("endpoint", help="its id")
    args = parser.parse_args(argv)
    try:
        found = trace(reading.read(Settings), args.endpoint)
    except MillraceError as wrong:
        sys.stderr.write(f"{wrong}\n")
        return EXIT_USAGE
    sys.stdout.write(json.dumps(found, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
