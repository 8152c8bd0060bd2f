"""A tier file that contradicts itself, our templates or the Platform is refused by its line, its field and a remedy."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import pytest
import yaml

from libs.common.errors import Invalid
from services.capacity_manager import __main__ as program
from services.capacity_manager.core.observed import NodeTypeSeen
from services.capacity_manager.core.plan import plan
from services.capacity_manager.core.reasons import Reason
from services.capacity_manager.core.warmth import Warm
from services.capacity_manager.shell.templates import read_recipes
from services.capacity_manager.shell.tiers import read_tiers
from tests.unit.capacity_manager.builders import NOW, Bench, requested

CATALOGUE: Final = Path(__file__).parents[3] / "deploy" / "catalogue"
TIER: Final[dict[str, Any]] = {
    "name": "a",
    "tenancy": "private_nodes",
    "node_type": "metal3.gpu-h100",
    "gpus_per_node": 8,
    "gpus_per_replica": 4,
    "replicas_max": 16,
    "cluster_template": "millrace-private-h100@1.0.0",
}
FALLBACK: Final[dict[str, Any]] = {key: TIER[key] for key in ("node_type", "gpus_per_node", "cluster_template")}


def test_the_tiers_and_templates_that_millrace_brings_do_not_contradict_each_other() -> None:
    assert [each.name for each in read_tiers(CATALOGUE, read_recipes())][:2] == ["h100-dedicated", "l40s-dedicated"]


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"tenancy": "vnoed"}, "t.yaml:2 tenancy: there is no vnoed; use one of shared_pool, tenant_cluster"),
        ({"gpus_per_node": 2}, "t.yaml:2 gpus_per_node: metal3.gpu-h100 has 2, a replica of a needs 4; lower gpus_per"),
        ({"gpus_per_node": "8"}, "t.yaml:2 gpus_per_node: '8' is no count; write a whole number from 1"),
        ({"replicas_max": 0}, "t.yaml:2 replicas_max: 0 is no count"),
        ({"warm": {"nodes": 1, "floor": 2}}, "t.yaml:2 warm: needs nodes, and a floor that is not above them"),
        ({"warm": {"nodes": 2, "most": 1}}, "t.yaml:2 warm.most: 1 is below nodes, which is 2"),
        ({"warm": 3}, "t.yaml:2 warm: needs nodes"),
        ({"fallbacks": [FALLBACK]}, "t.yaml:2 fallbacks.0 node_type: metal3.gpu-h100 is a class of a already"),
        ({"tenancy": "vnode", "fallbacks": [FALLBACK]}, "t.yaml:2 fallbacks: a cluster that endpoints share"),
        ({"cluster_template": "millrace-private-h100@9.0.0"}, "cluster_template: millrace-private-h100 has no version"),
        ({"cluster_template": "millrace-shared-l40s@1.0.0"}, "is for tenancy shared_pool, a is private_nodes"),
        ({"node_type": "terraform.gpu-h100"}, "node_type: terraform.gpu-h100 is made by terraform, the nodes of"),
        (
            {"replicas_max": 200},
            "replicas_max: 200 replicas and 0 warm nodes are 100 nodes, millrace-private-h100@1.0.",
        ),
        ({"replicas_max": 128, "warm": {"nodes": 1}}, "128 replicas and 1 warm nodes are 65 nodes"),
    ],
)
def test_what_can_t_be_true_is_refused_by_its_line_and_field(
    tmp_path: Path, changes: dict[str, Any], complaint: str
) -> None:
    with pytest.raises(Invalid) as caught:
        read_tiers(written(tmp_path, {**TIER, **changes}), read_recipes())

    assert complaint.replace("t.yaml", "tiers.yaml") in str(caught.value)


def test_a_name_that_is_there_twice_is_refused_with_both_lines(tmp_path: Path) -> None:
    with pytest.raises(Invalid, match=r"tiers\.yaml:9 name: a is the tier of tiers\.yaml:2 too"):
        read_tiers(written(tmp_path, TIER, dict(TIER)))


def test_the_service_does_not_start_on_such_a_file_and_says_why_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "key").write_text("k")
    told = {
        "CATALOGUE_DIR": str(written(tmp_path, {**TIER, "gpus_per_node": 2})),
        "PLATFORM_URL": "http://127.0.0.1:1",
        "PLATFORM_KEY_FILE": str(tmp_path / "key"),
        "DATABASE_URL": f"sqlite:///{tmp_path}/never-made.db",
    }
    for name, value in told.items():
        monkeypatch.setenv(f"MILLRACE_{name}", value)

    assert program.main() == 2

    assert capsys.readouterr().err.startswith("capacity-manager: tiers.yaml:2 gpus_per_node: metal3.gpu-h100 has 2")
    assert not (tmp_path / "never-made.db").exists()


@pytest.mark.parametrize(
    ("seen", "reason"),
    [
        (NodeTypeSeen(is_known=False, free=0), Reason.NODE_TYPE_UNKNOWN),
        (NodeTypeSeen(is_known=True, free=9, gpus=4), Reason.NODE_TYPE_MISMATCH),
    ],
)
def test_a_class_that_no_node_type_matches_refuses_a_new_endpoint_at_once_and_claims_nothing(
    seen: NodeTypeSeen, reason: Reason
) -> None:
    bench = Bench()
    bench.hear(requested())

    bench.see(project=None, node_type=seen)

    assert [getattr(each, "reason", "") for each in bench.told if each.kind == "capacity.failed"] == [reason]
    assert plan(bench.claim, bench.last_seen, NOW) == ()
    assert bench.gpus == 0


def test_the_autoscaler_s_word_counts_from_the_floor_to_the_most_and_not_at_all_without_one() -> None:
    open_ended = Warm(target=2, floor=1, ceiling=4)

    assert [open_ended.wanted(said) for said in (None, 0, 3, 9)] == [2, 1, 3, 4]
    assert replace(open_ended, ceiling=0).wanted(9) == 2


def written(directory: Path, *tiers: dict[str, Any]) -> Path:
    (directory / "tiers.yaml").write_text(yaml.safe_dump({"tiers": list(tiers)}, sort_keys=False))
    return directory
