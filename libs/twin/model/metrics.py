"""vLLM's metric names, so that whatever reads a real engine reads this one."""

from __future__ import annotations

from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

SHORT_S: Final = (0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0)
LONG_S: Final = (0.3, 0.5, 0.8, 1.0, 1.5, 2.0, 2.5, 5.0, 10.0, 15.0, 20.0, 30.0, 40.0, 50.0, 60.0, 120.0)


class EngineMetrics:
    """The metrics of one engine, in a registry of their own."""

    def __init__(self, model_name: str) -> None:
        self.registry = CollectorRegistry()
        names = ("model_name", "engine")
        values = (model_name, "0")

        def gauge(name: str, text: str) -> Gauge:
            return Gauge(f"vllm:{name}", text, names, registry=self.registry).labels(*values)

        def counter(name: str, text: str) -> Counter:
            return Counter(f"vllm:{name}", text, names, registry=self.registry).labels(*values)

        def histogram(name: str, text: str, buckets: tuple[float, ...]) -> Histogram:
            return Histogram(f"vllm:{name}", text, names, buckets=buckets, registry=self.registry).labels(*values)

        self.running = gauge("num_requests_running", "Requests in model execution batches.")
        self.waiting = gauge("num_requests_waiting", "Requests waiting to be processed.")
        self.cache_usage = gauge("kv_cache_usage_perc", "KV-cache usage; 1 means all of it.")
        self.prompt_tokens = counter("prompt_tokens", "Prefill tokens processed.")
        self.generation_tokens = counter("generation_tokens", "Generation tokens processed.")
        self.first_token_s = histogram("time_to_first_token_seconds", "Time to first token in seconds.", SHORT_S)
        self.inter_token_s = histogram("inter_token_latency_seconds", "Time between two tokens in seconds.", SHORT_S)
        self.latency_s = histogram("e2e_request_latency_seconds", "End to end request latency in seconds.", LONG_S)
        self._finished = Counter(
            "vllm:request_success", "Requests that ended, by how.", (*names, "finished_reason"), registry=self.registry
        )
        self._values = values

    def finished(self, reason: str) -> None:
        """Count a request that ended: stop, length or abort."""
        self._finished.labels(*self._values, reason).inc()

    def text(self) -> bytes:
        """The exposition."""
        return generate_latest(self.registry)
