"""What is applied for an endpoint, version by version, as the API server of its tenant cluster tells it."""

from __future__ import annotations

import json
import threading
from contextlib import suppress
from typing import Any

import httpx

from tests.e2e.local_profile import Profile


class Applied:
    """Every version of an endpoint's Deployment, as its tenant cluster told it to a watch."""

    def __init__(self, profile: Profile, endpoint_id: str) -> None:
        (cluster,) = [each for each in profile.inventory()["clusters"] if each["name"] == endpoint_id]
        place = f"/kubernetes/project/{cluster['project']}/virtualcluster/{cluster['name']}"
        url = json.loads(profile.home.credentials.read_text())["twin_url"]
        self._client = httpx.Client(headers={"authorization": f"Bearer {profile.home.twin_key.read_text().strip()}"})
        self._url = f"{url}{place}/apis/apps/v1/namespaces/inference/deployments?watch=1"
        self._name = endpoint_id
        self.seen: list[tuple[int, str]] = []  # Generation and model, in the order of the versions.
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self) -> None:
        with suppress(httpx.HTTPError), self._client.stream("GET", self._url, timeout=None) as lines:
            for line in lines.iter_lines():  # Until the cluster goes, or the twin.
                self._note(json.loads(line)["object"])

    def _note(self, deployment: Any) -> None:
        if deployment["metadata"]["name"] != self._name:
            return
        generation = int(deployment["metadata"]["annotations"]["millrace.dev/generation"])
        served_as = deployment["spec"]["template"]["metadata"]["annotations"]["millrace.dev/model"]
        model = served_as.partition("@")[0]  # Newer recipes add the endpoint that it is served for.
        if not self.seen or self.seen[-1] != (generation, model):
            self.seen.append((generation, model))
