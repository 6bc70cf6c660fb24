"""All runs at once."""

from grafana_foundation_sdk.builders.dashboard import Dashboard

from otel_train import names
from otel_train import resource_names as rn
from stack.dashboards.panels import chart, listing, page
from stack.dashboards.series import DATA_WAIT_SHARE, RANK, RUN, TRAINING, gauge, quantile, rate, resource


def build() -> Dashboard:
    """A table of what runs now, then charts."""
    ranks = f"count by ({RUN}) (count by ({RUN}, {RANK}) ({gauge(names.STEP_RATE)}))"
    now = [
        listing(
            "Runs", "Those that have sent something in the last minutes.",
            (ranks, "ranks"),
            (f"max by ({RUN}) ({gauge(names.STEP_RATE)})", "steps/s"),
            (f"sum by ({RUN}) ({gauge(names.SAMPLE_RATE)})", "samples/s"),
            (quantile(0.5, names.STEP_DURATION, RUN, TRAINING), "median step (s)"),
            (f"max by ({RUN}) ({DATA_WAIT_SHARE})", "waiting for data"),
            (f"sum by ({RUN}) ({gauge(names.ALERTS_ACTIVE)})", "alerts"),
        ),
    ]  # fmt: skip
    over_time = [
        chart("Ranks", "none", (ranks, f"{{{{{RUN}}}}}"), stacked=True, says="That train now."),
        chart("Throughput", "samples/s", (f"sum by ({RUN}) ({rate(names.SAMPLE_COUNT, TRAINING)})", f"{{{{{RUN}}}}}"),
              says="Samples of all ranks of each run."),
        chart("Busy GPUs", "percentunit", (f"avg by ({RUN}) ({resource(rn.GPU_UTILIZATION)})", f"{{{{{RUN}}}}}"),
              top=1.0, none="no GPU was sampled", says="The mean utilization of each run's GPUs."),
        chart("Alerts that fire", "none", (f"sum by ({RUN}) ({gauge(names.ALERTS_ACTIVE)})", f"{{{{{RUN}}}}}"),
              says="Over all ranks of each run."),
    ]  # fmt: skip
    return page("fleet", "Fleet", "All runs that send here.", [("Now", now), ("Over time", over_time)])
