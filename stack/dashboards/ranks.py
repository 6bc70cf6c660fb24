"""Ranks side by side: who is late, who waits."""

from grafana_foundation_sdk.builders.dashboard import Dashboard

from otel_train import names
from otel_train import resource_names as rn
from stack.dashboards.panels import chart, page
from stack.dashboards.series import DATA_WAIT_SHARE, PHASE, RANK, RUN, TRAINING, mean, quantile, rate, resource

BY = f"{RUN}, {RANK}"
LEGEND = f"rank {{{{{RANK}}}}}"


def build() -> Dashboard:
    """Steps first: in lock step they take equally long; what differs is where."""
    steps = [
        chart("Median step", "s", (quantile(0.5, names.STEP_DURATION, BY, TRAINING), LEGEND),
              says="Ranks that reduce gradients wait for each other: equal times do not mean equal speed."),
        chart("Slow steps", "s", (quantile(0.99, names.STEP_DURATION, BY, TRAINING), LEGEND), says="99 %."),
        chart("Forward", "s", (mean(names.PHASE_DURATION, BY, TRAINING, PHASE + '="forward"'), LEGEND),
              says="No rank waits for another here: one that is above the others is the straggler."),
        chart("Backward", "s", (mean(names.PHASE_DURATION, BY, TRAINING, PHASE + '="backward"'), LEGEND),
              says="With DDP the reduction is in it: the straggler is below the others, which wait for it."),
        chart("Waiting for data", "percentunit", (DATA_WAIT_SHARE, LEGEND), top=1.0,
              says="A rank that waits for its data makes all others wait in the reduction."),
        chart("Behind the fastest", "percentunit",
              (f"1 - {_rate()} / on ({RUN}) group_left () max by ({RUN}) ({_rate()})", LEGEND),
              says="Steps of the last minutes, against the rank that took most."),
    ]  # fmt: skip
    processes = [
        chart("CPU of the process", "percentunit", (resource(rn.PROCESS_CPU_UTILIZATION), LEGEND + " {{cpu_mode}}"),
              says="Of one CPU, or of all that it may use: the conventions' process.cpu.utilization."),
        chart("Memory", "bytes", (resource(rn.PROCESS_MEMORY_USAGE), LEGEND), says="Of the rank's own process."),
    ]  # fmt: skip
    return page("ranks", "Ranks", "The ranks of a run side by side.", [("Steps", steps), ("Processes", processes)])


def _rate() -> str:
    return f"sum by ({BY}) ({rate(names.STEP_COUNT, TRAINING)})"
