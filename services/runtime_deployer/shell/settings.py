"""What an operator may turn, from the environment (`MILLRACE_…`)."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field

from libs.common.settings import CommonSettings

TEMPLATES_DIR = Path(__file__).parent.parent / "templates"


class Settings(CommonSettings):
    """Settings of runtime-deployer. Units are in the names."""

    admin_port: int = 8703
    platform_url: str = Field(default="", description="Base address of vCluster Platform, or of the twin.")
    platform_key_file: Path | None = None  # File with the access key; read again for every request, so rotate it.
    platform_ca_file: Path | None = None  # A self-signed Platform certificate is verified against this.
    kubeconfig: Path | None = None  # Instead of a Platform: all endpoints live in the one cluster that this file names.
    templates_dir: Path = TEMPLATES_DIR  # One YAML file a template version; the wheel brings vllm-1.yaml.
    catalogue_dir: Path | None = None  # With it, models come from where its files in `models/` say.
    kubernetes_timeout_s: float = 10.0  # A tenant API server answers in milliseconds, or something is wrong.
    warm_up_timeout_s: float = 30.0  # The first request of an engine may compile kernels.
    connections_max: int = 64  # Open connection pools to tenant clusters; the least recently used is closed.
