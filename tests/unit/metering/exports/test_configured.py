"""The file that an operator edits: the example reads, and a mistake is one line that names it and no secret."""

from __future__ import annotations

from pathlib import Path

import pytest

from libs.common.clock import ManualClock
from libs.common.errors import Invalid
from libs.common.units import HOUR_MS
from services.metering.core.exports.state import Code
from services.metering.shell.exporters.configured import read_exports

EXAMPLE = Path(__file__).parents[4] / "deploy" / "exports" / "exports.yaml"
SECRET = "sk_live_0123456789abcdefghijklmnopqrstuvwxyz"


@pytest.fixture
def example(tmp_path: Path) -> Path:
    """The example, with its secrets where it says."""
    (tmp_path / "secret").write_text(f"{SECRET}\n")
    text = EXAMPLE.read_text()
    for name in ("openmeter", "stripe", "lago", "exports-ed25519.pem"):
        text = text.replace(f"/run/secrets/{name}", str(tmp_path / "secret"))
    path = tmp_path / "exports.yaml"
    path.write_text(text)
    return path


def test_the_example_reads(example: Path) -> None:
    configured = {each.receiver.name: each.receiver for each in read_exports(example, ManualClock())}

    assert sorted(configured) == ["files", "lago", "openmeter", "stripe"]
    assert configured["stripe"].customers == {"acme": "cus_EXAMPLE"}
    assert configured["openmeter"].limits.dedupes_ms == 768 * HOUR_MS
    assert configured["lago"].codes["gpu_ms/serving"] == Code("vcluster_gpu_hours", "gpu_hours", 3_600_000)
    assert configured["files"].since_ms == 1_798_761_600_000


@pytest.mark.parametrize(
    ("was", "is_", "says"),
    [
        ("system: stripe", "system: strype", "system"),
        ("url: https://lago.example.com", "url: http://lago.example.com", "must be https"),
        ("since: 2027-01-01T00:00:00Z", "since: 2027-01-01T00:00:00", "since"),
        ("requests: { name: millrace.requests }", "reqests: { name: millrace.requests }", "no meter reqests"),
        ("name: millrace_gpu_ms_serving", "name: x, per: 1000", "only Lago takes decimals"),
        ("name: stripe\n", "name: lago\n", "two exports"),
        ("customer_default:", "custmer_default:", "custmer_default"),
        ("version: 1", "version: 2", "version"),
        ("version: 1", "version: [", "is not YAML"),
    ],
)
def test_a_mistake_is_one_line_that_names_it(example: Path, was: str, is_: str, says: str) -> None:
    text = example.read_text()
    assert was in text
    example.write_text(text.replace(was, is_))

    with pytest.raises(Invalid, match=says) as refused:
        read_exports(example, ManualClock())

    assert "\n" not in str(refused.value)
    assert SECRET not in str(refused.value)


def test_a_secret_that_is_missing_or_no_text_is_named_by_its_export(example: Path) -> None:
    secret = example.with_name("secret")
    for content in (b"", b"two\nlines", b"\xff\xfe"):
        secret.write_bytes(content)
        with pytest.raises(Invalid, match="export openmeter: its key_file"):
            read_exports(example, ManualClock())
    secret.unlink()

    with pytest.raises(Invalid, match="export openmeter: its key_file can't be read"):
        read_exports(example, ManualClock())


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(Invalid, match=r"none\.yaml can't be read"):
        read_exports(tmp_path / "none.yaml", ManualClock())
