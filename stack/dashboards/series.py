"""PromQL of otel_train's metrics, for the runs and ranks that are chosen above a dashboard."""

from otel_train import names
from otel_train.prometheus_names import (
    COUNTER,
    DATA_WAIT,
    GAUGE,
    HISTOGRAM,
    PHASE,
    RANK,
    RUN,
    TRAINING,
    prometheus_name,
    resource_name,
)

CHOSEN = f'{RUN}=~"$run", {RANK}=~"$rank"'
PACE = "$__rate_interval"


def where(*more: str) -> str:
    """The selector of the chosen runs and ranks, and what else is asked for."""
    return "{" + ", ".join([CHOSEN, *more]) + "}"


def gauge(name: str, *more: str) -> str:
    """A last value."""
    return prometheus_name(name, GAUGE) + where(*more)


def resource(name: str, *more: str) -> str:
    """A resource's last value."""
    return resource_name(name) + where(*more)


def rate(name: str, *more: str) -> str:
    """A counter's rise a second."""
    return f"rate({counter(name, *more)}[{PACE}])"


def counter(name: str, *more: str) -> str:
    """A counter's total."""
    return prometheus_name(name, COUNTER) + where(*more)


def histogram(name: str, *more: str) -> str:
    """The rate of a native histogram."""
    return f"rate({prometheus_name(name, HISTOGRAM)}{where(*more)}[{PACE}])"


def quantile(part: float, name: str, by: str, *more: str) -> str:
    """A quantile of a native histogram, a series for each value of the labels."""
    return f"histogram_quantile({part:g}, sum by ({by}) ({histogram(name, *more)}))"


def mean(name: str, by: str, *more: str) -> str:
    """The mean of a native histogram."""
    return f"histogram_avg(sum by ({by}) ({histogram(name, *more)}))"


def of_step_time(spent: str, by: str) -> str:
    """A rate of seconds as a part of the steps' time. by: the labels that both sides have."""
    whole = f"sum by ({by}) (histogram_sum({histogram(names.STEP_DURATION, TRAINING)}))"
    return f"{spent} / on ({by}) group_left () {whole}"


DATA_WAIT_SHARE = of_step_time(
    f"sum by ({RUN}, {RANK}) ({rate(names.PHASE_TIME, TRAINING, DATA_WAIT)})",
    f"{RUN}, {RANK}",
)
PHASE_SHARES = of_step_time(f"sum by ({RUN}, {PHASE}) ({rate(names.PHASE_TIME, TRAINING)})", RUN)
