"""What the server tells a Prometheus server, under the names that vLLM uses."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from prometheus_client import CollectorRegistry, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from llm_course.engine.batch import Engine
from llm_course.engine.request import Handle

GAUGES = {
    "num_requests_running": "Requests that the engine computes.",
    "num_requests_waiting": "Requests that wait for a row or for pages.",
    "kv_cache_usage_perc": "Pages in use, from 0 to 1.",
}
COUNTERS = {
    "num_preemptions": "Rows that gave up their pages.",
    "prefix_cache_queries": "Tokens of prompts that were looked up in pages.",
    "prefix_cache_hits": "Those of them that were found.",
    "prompt_tokens": "Tokens of prompts.",
    "generation_tokens": "Tokens generated.",
}
SECONDS = (
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60,
)  # fmt: skip
HISTOGRAMS = {
    "time_to_first_token_seconds": "From a request's arrival to its first token.",
    "inter_token_latency_seconds": "Between two tokens of an answer.",
    "e2e_request_latency_seconds": "From a request's arrival to its end.",
    "request_queue_time_seconds": "From a request's arrival to its first step.",
}


class Metrics(Collector):
    """Written by the engine's thread, read by any."""

    def __init__(self, engine: Engine, model: str) -> None:
        self.engine, self.model = engine, model
        self.registry = CollectorRegistry(auto_describe=False)
        self.histograms = {
            name: Histogram(
                f"vllm:{name}", text, ["model_name"], buckets=SECONDS,
                registry=self.registry,
            ).labels(model)
            for name, text in HISTOGRAMS.items()
        }  # fmt: skip
        self.update()
        self.registry.register(self)

    def update(self) -> None:
        """Take the engine's numbers of this moment."""
        self.numbers = self.engine.metrics()
        self.ended = {
            reason: self.engine.ended[reason]
            for reason in ("stop", "length", "abort", "error")
        }

    def first_token(self, handle: Handle) -> None:
        if handle.first_token is None or handle.started is None:
            return
        self._observe("request_queue_time", handle.started - handle.arrived)
        self._observe("time_to_first_token", handle.first_token - handle.arrived)

    def next_token(self, seconds: float) -> None:
        self._observe("inter_token_latency", seconds)

    def end(self, handle: Handle) -> None:
        if handle.ended is not None:
            self._observe("e2e_request_latency", handle.ended - handle.arrived)

    def _observe(self, name: str, seconds: float) -> None:
        self.histograms[f"{name}_seconds"].observe(seconds)

    def collect(self) -> Iterator[GaugeMetricFamily | CounterMetricFamily]:
        """For the registry: gauges and counters, whose values the engine keeps."""
        label = ["model_name"]
        for name, text in GAUGES.items():
            gauge = GaugeMetricFamily(f"vllm:{name}", text, labels=label)
            gauge.add_metric([self.model], self.numbers[name])
            yield gauge
        for name, text in COUNTERS.items():
            counter = CounterMetricFamily(f"vllm:{name}", text, labels=label)
            counter.add_metric([self.model], self.numbers[f"{name}_total"])
            yield counter
        yield self._by_reason([*self.ended.items()])

    def _by_reason(self, ended: Iterable[tuple[str, int]]) -> CounterMetricFamily:
        family = CounterMetricFamily(
            "vllm:request_success",
            "Requests that have ended, by the reason.",
            labels=["model_name", "finished_reason"],
        )
        for reason, count in ended:
            family.add_metric([self.model, reason], count)
        return family

    def text(self) -> bytes:
        return generate_latest(self.registry)
