"""otel_train itself, and the stack."""

from grafana_foundation_sdk.builders.dashboard import Dashboard

from otel_train import names
from stack.dashboards.panels import chart, page
from stack.dashboards.series import RANK, RUN, counter, gauge

LEGEND = f"{{{{{RUN}}}}} rank {{{{{RANK}}}}}"


def build() -> Dashboard:
    """What it costs, what it lost, and how the collector fares."""
    costs = [
        chart("Cost to a step", "percentunit", (gauge(names.LEVEL_SHARE), LEGEND),
              says="Of the training thread, as a part of the median step. Above 1 % it records less by itself."),
        chart("Time of its own", "s", (counter(names.OVERHEAD), LEGEND + " {{otel_train_thread}}"),
              says="CPU time since the run began: the training thread's, and of the threads beside it."),
        chart("Records lost", "none", (counter(names.RECORDS_DROPPED), LEGEND),
              says="Since the run began. It is bounded: what was not sent before it was full is lost, and counted."),
    ]  # fmt: skip
    collector = [
        chart("Received", "none",
              ("sum(rate(otelcol_receiver_accepted_spans[$__rate_interval]))", "spans"),
              ("sum(rate(otelcol_receiver_accepted_metric_points[$__rate_interval]))", "metric points"),
              says="By the collector, a second."),
        chart("Waiting to be sent", "none", ("otelcol_exporter_queue_size", "{{exporter}}"),
              says="Requests in the collector's queues, on disk: they grow while a backend is away."),
        chart("Memory of the stack", "bytes", ("process_resident_memory_bytes", "{{instance}}"),
              ("otelcol_process_memory_rss", "{{instance}}"),
              ("otelcol_process_memory_rss_bytes", "{{instance}}"), says="Of its parts."),
    ]  # fmt: skip
    return page("itself", "otel_train itself", "What otel_train costs, and what was lost.",
                [("otel_train", costs), ("The stack", collector)])  # fmt: skip
