"""One run: how fast, how steady, what bounds it."""

from grafana_foundation_sdk.builders.dashboard import Dashboard

from otel_train import names
from stack.dashboards.panels import chart, figure, heat, page
from stack.dashboards.series import (
    DATA_WAIT_SHARE,
    PHASE,
    PHASE_SHARES,
    RANK,
    RUN,
    TRAINING,
    gauge,
    histogram,
    mean,
    quantile,
    rate,
)

ACTIVE = f"sum by ({RUN}, otel_train_alert_rule) ({gauge(names.ALERTS_ACTIVE)})"


def build() -> Dashboard:
    """Top to bottom: the figures, where the time goes, the training, what else there was."""
    figures = [
        figure("Steps", "steps/s", f"max by ({RUN}) ({gauge(names.STEP_RATE)})", "Steps a second of the fastest rank."),
        figure("Samples", "samples/s", f"sum by ({RUN}) ({gauge(names.SAMPLE_RATE)})", "All ranks together."),
        figure("Tokens", "tokens/s", f"sum by ({RUN}) ({gauge(names.TOKEN_RATE)})", "All ranks together."),
        figure("Median step", "s", quantile(0.5, names.STEP_DURATION, RUN, TRAINING), "Over all chosen ranks."),
        figure("Waiting for data", "percentunit", f"max by ({RUN}) ({DATA_WAIT_SHARE})",
               "Part of the step's time, of the rank that waits most."),
        figure("Alerts", "none", f"sum by ({RUN}) ({gauge(names.ALERTS_ACTIVE)})", "Rules that fire now.", 0),
    ]  # fmt: skip
    time = [
        chart("Where a step's time goes", "percentunit", (PHASE_SHARES, f"{{{{{PHASE}}}}}"), stacked=True, top=1.0,
              says="Phases as parts of the steps' time; what is missing to 100 % is in no phase. Host time: what a GPU "
                   "computes meanwhile is not in it."),
        chart("Step time", "s",
              (quantile(0.5, names.STEP_DURATION, RUN, TRAINING), "median"),
              (quantile(0.95, names.STEP_DURATION, RUN, TRAINING), "95 %"),
              (quantile(0.99, names.STEP_DURATION, RUN, TRAINING), "99 %"), exemplars=True,
              says="Diamonds are single steps whose trace is kept: a click leads to it."),
        heat("Step times", "s", f"sum({histogram(names.STEP_DURATION, TRAINING)})",
             "Two bands are two kinds of steps: long and short batches, or a rank that is slower."),
        chart("Waiting for data", "percentunit", (DATA_WAIT_SHARE, f"rank {{{{{RANK}}}}}"), top=1.0,
              says="Part of the step in which the training thread waited for its batch."),
    ]  # fmt: skip
    training = [
        chart("Throughput", "samples/s", (f"sum by ({RUN}) ({rate(names.SAMPLE_COUNT, TRAINING)})", f"{{{{{RUN}}}}}"),
              says="Samples of all chosen ranks together."),
        chart("Loss", "none", (f"avg by ({RUN}) ({gauge(names.PREFIX + 'loss')})", f"{{{{{RUN}}}}}"),
              says="The last value given to log(), the mean of the ranks."),
        chart("Checkpoints", "s",
              (mean("dl.checkpoint.duration", f"{RUN}, dl_checkpoint_kind"), "{{dl_checkpoint_kind}}"),
              says="What one takes on average. A save that the training does not wait for is its background."),
        chart("Evaluations", "s", (mean("dl.evaluation.duration", RUN), f"{{{{{RUN}}}}}"), says="What one takes."),
        chart("Alerts that fire", "none", (ACTIVE, "{{otel_train_alert_rule}}"), width=24,
              says="1 for a rank on which the rule fires. What to do is on the terminal, and in docs/alerts.md."),
    ]  # fmt: skip
    return page("run", "Run", "How fast a run is, how steady, and what bounds it.",
                [("Now", figures), ("Where the time goes", time), ("Training", training)])  # fmt: skip
