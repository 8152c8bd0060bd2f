"""Requests to tenant clusters over the official client's connection pools: through the Platform's proxy, or to the one
cluster of a kubeconfig (the `kubernetes` profile, where all endpoints live in one cluster)."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote, urlencode

import urllib3.exceptions
from kubernetes import config as kubeconfigs
from kubernetes.client import ApiClient, ApiException, Configuration
from pydantic_core import from_json

from libs.common.errors import Invalid, Unavailable
from services.runtime_deployer.core.state import Cluster
from services.runtime_deployer.shell import metrics

APPLY: Final = "application/apply-patch+yaml"
JSON: Final = "application/json"
RETRY_AFTER_MAX_S: Final = 60.0

RestFactory = Callable[[Configuration], Any]  # Makes what takes the place of `ApiClient.rest_client`.


@dataclass(frozen=True, slots=True)
class Reply:
    """What a tenant cluster answered, whatever it was."""

    status: int
    body: Mapping[str, Any] = field(default_factory=dict)
    retry_after_s: float = 1.0

    @property
    def is_ok(self) -> bool:
        """Whether it did as asked."""
        return 200 <= self.status < 300


def access_key_from(path: Path) -> Callable[[], str]:
    """Read the access key anew each time it is needed, so that a rotated file counts at once."""

    def read() -> str:
        try:
            return path.read_text().strip()
        except OSError as wrong:
            raise Unavailable(f"access key file {path} can't be read: {wrong.strerror}", code="no_key") from wrong

    return read


class Connections:
    """One client per tenant cluster, at most `limit` of them; the least recently used one is closed for a new one."""

    def __init__(
        self,
        platform_url: str,
        access_key: Callable[[], str],
        *,
        rest: RestFactory | None = None,
        ca_file: Path | None = None,
        kubeconfig: Path | None = None,
        limit: int = 64,
    ) -> None:
        self._platform_url = platform_url.rstrip("/")
        self._access_key = access_key
        self._kubeconfig = kubeconfig
        self._rest = rest
        self._ca_file = ca_file
        self._limit = limit
        self._clients: OrderedDict[Cluster, Any] = OrderedDict()
        self._lock = threading.Lock()

    def ask(
        self,
        cluster: Cluster,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        body: Mapping[str, Any] | None = None,
        content_type: str = JSON,
        timeout_s: float,
    ) -> Reply:
        """Send one request and return the answer, good or bad. Raises Unavailable if there was none."""
        client = self._client(cluster)
        headers = {"Accept": JSON, **self._authorization(client)}
        if body is not None:
            headers["Content-Type"] = content_type
        url = client.configuration.host + path
        if query:
            url += "?" + urlencode(sorted(query.items()), quote_via=quote, safe="/")
        try:
            # Past `param_serialize` and `call_api`, which take apart a body that is JSON already.
            response: Any = client.rest_client.request(
                method, url, headers={**client.default_headers, **headers}, body=body, _request_timeout=timeout_s
            )
            content = response.read()
        except (urllib3.exceptions.HTTPError, ApiException, OSError) as wrong:
            metrics.REQUESTS.labels(method=method, status="none").inc()
            raise Unavailable(
                f"tenant cluster {cluster.name} did not answer: {type(wrong).__name__}", code="no_answer"
            ) from wrong
        metrics.REQUESTS.labels(method=method, status=str(response.status)).inc()
        return Reply(response.status, _parsed(content), _retry_after_s(response.headers))

    def close(self) -> None:
        """Close every connection."""
        with self._lock:
            clients = list(self._clients.values())
            self._clients.clear()
        for each in clients:
            each.close()

    def _client(self, cluster: Cluster) -> Any:  # noqa: ANN401  # The generated client has no types to offer.
        with self._lock:
            client = self._clients.get(cluster)
            if client is None:
                client = self._clients[cluster] = self._connect(cluster)
                if len(self._clients) > self._limit:
                    _, oldest = self._clients.popitem(last=False)
                    oldest.close()
            self._clients.move_to_end(cluster)
            metrics.CONNECTIONS.set(len(self._clients))
            return client

    def _connect(self, cluster: Cluster) -> Any:  # noqa: ANN401  # As above.
        # The reconciler retries, with back-off and with the reason kept; a client that retries hides both.
        configuration = Configuration(retries=False)
        if self._kubeconfig is not None:
            _read(self._kubeconfig, configuration)
        else:
            place = f"project/{cluster.platform_project}/virtualcluster/{cluster.name}"
            configuration.host = f"{self._platform_url}/kubernetes/{place}"
            if self._ca_file is not None:
                configuration.ssl_ca_cert = str(self._ca_file)
        client = ApiClient(configuration)
        if self._rest is not None:
            client.rest_client = self._rest(configuration)
        return client

    def _authorization(self, client: Any) -> Mapping[str, str]:  # noqa: ANN401  # As above.
        """The Platform's access key, or what the kubeconfig says now: a token that ages, or a certificate and none."""
        if self._kubeconfig is None:
            return {"Authorization": f"Bearer {self._access_key()}"}
        token = client.configuration.get_api_key_with_prefix("BearerToken", alias="authorization")
        return {"Authorization": token} if token else {}


def _read(kubeconfig: Path, configuration: Configuration) -> None:
    try:
        load: Any = kubeconfigs.load_kube_config  # The package leaves this one without types.
        load(str(kubeconfig), client_configuration=configuration)
    except (kubeconfigs.ConfigException, OSError) as wrong:
        raise Invalid(f"kubeconfig {kubeconfig} can't be used: {wrong}") from wrong


def _parsed(content: bytes | str | None) -> Mapping[str, Any]:
    """The JSON object of an answer; anything else (a proxy's HTML page) tells us nothing."""
    try:
        parsed = from_json(content or b"{}", cache_strings="keys")
    except ValueError:
        return {}
    return parsed if isinstance(parsed, dict) else {}


def _retry_after_s(headers: Mapping[str, str] | None) -> float:
    text = {name.lower(): value for name, value in (headers or {}).items()}.get("retry-after", "")
    return min(float(text), RETRY_AFTER_MAX_S) if text.isdigit() else 1.0
