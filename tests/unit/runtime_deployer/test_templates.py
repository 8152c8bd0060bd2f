"""Runtime templates as an operator writes them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from libs.common.errors import Invalid
from services.runtime_deployer.shell.settings import TEMPLATES_DIR
from services.runtime_deployer.shell.templates import FILE_BYTES_MAX, load_templates

SHIPPED = (TEMPLATES_DIR / "vllm-1.yaml").read_text()


def test_a_second_version_of_vllm_differs_where_it_says_so() -> None:
    one, two = (load_templates(TEMPLATES_DIR)[each] for each in ("vllm@1", "vllm@2"))

    assert two.drain_s == 2 * one.drain_s
    assert set(two.engine_args) - set(one.engine_args) == {"--enable-prefix-caching"}
    assert replace(two, version="1", drain_s=one.drain_s, engine_args=one.engine_args) == one


def test_the_shipped_templates_are_two_versions_of_vllm() -> None:
    assert set(load_templates(TEMPLATES_DIR)) == {"vllm@1", "vllm@2"}


def test_a_new_version_stands_beside_the_old_one(tmp_path: Path) -> None:
    (tmp_path / "vllm-1.yaml").write_text(SHIPPED)
    (tmp_path / "vllm-2.yaml").write_text(SHIPPED.replace('version: "1"', 'version: "2"').replace("60", "90"))

    templates = load_templates(tmp_path)

    assert set(templates) == {"vllm@1", "vllm@2"}
    assert templates["vllm@2"].start_s == 90


@pytest.mark.parametrize(
    ("text", "named"),
    [
        (SHIPPED.replace("start_s: 60", "start_s: soon"), "start_s"),
        (SHIPPED + "\nhealth_pth: /x\n", "health_pth"),
        (SHIPPED.replace("engine_image: millrace/model-server:1", ""), "engine_image"),
        ("name: [", "not YAML"),
        ("", "file"),
        ("x" * (FILE_BYTES_MAX + 1), "more than a template may have"),
    ],
)
def test_a_broken_template_is_refused_with_its_file_and_field(tmp_path: Path, text: str, named: str) -> None:
    (tmp_path / "broken.yaml").write_text(text)

    with pytest.raises(Invalid, match=r"broken\.yaml") as refused:
        load_templates(tmp_path)

    assert named in str(refused.value)


def test_two_files_with_one_version_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(SHIPPED)
    (tmp_path / "b.yaml").write_text(SHIPPED)

    with pytest.raises(Invalid, match=r"vllm@1 is already defined"):
        load_templates(tmp_path)


def test_a_directory_without_templates_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Invalid, match="MILLRACE_TEMPLATES_DIR"):
        load_templates(tmp_path)
