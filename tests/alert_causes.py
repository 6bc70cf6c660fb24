"""Runs written down minute by minute, healthy and with one thing wrong: what sets each built-in rule off."""

from log_builder import MS, SECOND, LogBuilder

from otel_train import names
from otel_train import resource_names as rn
from otel_train.alerts.replay import replay
from otel_train.alerts.rules import built_in
from otel_train.resource_names import series
from otel_train.runlog.layout import EVALUATION
from otel_train.runlog.storage import Memory

GIB = 1 << 30
GPU = {"hw__id": "GPU-1", "hw__type": "gpu"}
UTILIZATION = series(rn.GPU_UTILIZATION, **GPU)
TEMPERATURE = series(rn.HW_TEMPERATURE, hw__sensor_location="gpu", **GPU)


class Run:
    """A run written down minute by minute: steps of 200 ms, a sample every 5 s, a loss every step."""

    def __init__(self, tmp_path):
        self.builder = LogBuilder(tmp_path, storage=Memory())
        self.number = 0
        self.rows = {
            UTILIZATION: 0.97,
            TEMPERATURE: 60,
            series(rn.GPU_MEMORY_UTILIZATION, **GPU): 0.8,
            series(rn.GPU_THROTTLED, otel_train__gpu__throttle__reason="hw_thermal_slowdown", **GPU): 0,
            series(rn.GPU_THROTTLED, otel_train__gpu__throttle__reason="sw_power_cap", **GPU): 0,
            series(rn.HW_ERRORS, error__type="uncorrected", **GPU): 0,
            (rn.ALLOCATOR_RETRIES, ()): 0,
            (rn.CGROUP_MEMORY_UTILIZATION, ()): 0.5,
            (rn.CGROUP_MEMORY_USAGE, ()): 50 * GIB,
            (rn.CGROUP_MEMORY_LIMIT, ()): 100 * GIB,
            series(rn.CPU_UTILIZATION, cpu__mode="iowait"): 0.01,
            series(rn.FILESYSTEM_UTILIZATION, system__filesystem__mountpoint="/data"): 0.5,
            series(rn.FILESYSTEM_USAGE, system__filesystem__mountpoint="/data"): 500 * GIB,
            series(rn.FILESYSTEM_LIMIT, system__filesystem__mountpoint="/data"): 1000 * GIB,
            (rn.CHILDREN_COUNT, ()): 4,
        }

    def go(self, seconds, step_ms=200, wait_ms=10, loss=None, rows=None, evaluation=False, samples=32):
        """Train for so long; ``rows`` replaces samples by values or by functions of the second."""
        end_ns = self.builder.end_ns + int(seconds * SECOND)
        sample_ns = self.builder.end_ns
        while self.builder.end_ns < end_ns:
            flags = EVALUATION if evaluation else 0
            waited = ("data_wait", 0, wait_ms * MS)
            self.builder.step(self.number, step_ms * MS, [waited], samples=samples, flags=flags)
            value = loss(self.number) if loss else 2.0 * 0.9995**self.number
            self.builder.scalar(self.number, value)
            self.number += 1
            self.sample(sample_ns, rows)
            sample_ns = max(sample_ns, self.builder.end_ns // (5 * SECOND) * 5 * SECOND)
        return self

    def rest(self, seconds, rows=None):
        """Time passes without steps."""
        start_ns = self.builder.end_ns
        for second in range(0, int(seconds), 5):
            self.builder.end_ns = start_ns + second * SECOND
            self.sample(None, rows)
        self.builder.end_ns = start_ns + int(seconds * SECOND)
        return self

    def sample(self, last_ns, rows):
        now_ns = self.builder.end_ns
        if last_ns is not None and now_ns // (5 * SECOND) == last_ns // (5 * SECOND):
            return
        second = now_ns / SECOND
        given = {key: value(second) if callable(value) else value for key, value in (rows or {}).items()}
        self.builder.resources(
            now_ns, {key: value for key, value in {**self.rows, **given}.items() if value is not None}
        )

    def fired(self, *rules):
        """Rule names that fire, and those that are over, in their order; all of them, or some."""
        found = list(replay(self.builder.log, [*built_in().values()]))
        return [
            (each.change.rule.name, "over" if each.change.resolved else "fires")
            for each in found
            if not rules or each.change.rule.name in rules
        ]


CAUSES = {
    "gpu_idle": lambda run: run.go(240, rows={UTILIZATION: 0.3}).go(120),
    "host_memory": lambda run: run.go(60, rows={(rn.CGROUP_MEMORY_UTILIZATION, ()): 0.93}).go(60),
    "host_memory_creep": lambda run: run.go(
        1500, rows={(rn.CGROUP_MEMORY_USAGE, ()): lambda s: 50 * GIB + s * 30 * (1 << 20)}
    ).go(1200, rows={(rn.CGROUP_MEMORY_USAGE, ()): 10 * GIB}),
    "gpu_memory": lambda run: run.go(90, rows={series(rn.GPU_MEMORY_UTILIZATION, **GPU): 0.99}).go(90),
    "allocator_retries": lambda run: run.go(30, rows={(rn.ALLOCATOR_RETRIES, ()): 9}).go(
        400, rows={(rn.ALLOCATOR_RETRIES, ()): 9}
    ),
    "io_wait": lambda run: run.go(180, rows={series(rn.CPU_UTILIZATION, cpu__mode="iowait"): 0.5}).go(120),
    "gpu_hot": lambda run: run.go(120, rows={TEMPERATURE: 86}).go(60),
    "gpu_throttled": lambda run: run.go(
        90, rows={series(rn.GPU_THROTTLED, otel_train__gpu__throttle__reason="hw_thermal_slowdown", **GPU): 1}
    ).go(120),
    "gpu_power_capped": lambda run: run.go(
        420, rows={series(rn.GPU_THROTTLED, otel_train__gpu__throttle__reason="sw_power_cap", **GPU): 1}
    ).go(120),
    "gpu_xid": lambda run: run.go(30, rows={series(rn.GPU_XID, otel_train__gpu__xid__code="79", **GPU): 1}).go(
        400, rows={series(rn.GPU_XID, otel_train__gpu__xid__code="79", **GPU): 1}
    ),
    "gpu_ecc": lambda run: run.go(400, rows={series(rn.HW_ERRORS, error__type="uncorrected", **GPU): 2}),
    "filesystem_full": lambda run: run.go(
        60, rows={series(rn.FILESYSTEM_UTILIZATION, system__filesystem__mountpoint="/data"): 0.97}
    ).go(60),
    "filesystem_filling": lambda run: run.go(
        1500,
        rows={series(rn.FILESYSTEM_USAGE, system__filesystem__mountpoint="/data"): lambda s: (500 + s / 10) * GIB},
    ).go(1200, rows={series(rn.FILESYSTEM_USAGE, system__filesystem__mountpoint="/data"): 10 * GIB}),
    "step_time": lambda run: run.go(180, step_ms=360, samples=58).go(120),
    "throughput": lambda run: run.go(240, step_ms=200, samples=12).go(180),
    "data_starved": lambda run: run.go(240, wait_ms=90).go(120),
    "loss_nonfinite": lambda run: run.go(10, loss=lambda step: float("nan")).go(120),
    "loss_exploding": lambda run: run.go(120, loss=lambda step: 40.0).go(600),
    "loss_flat": lambda run: run.go(3600, loss=lambda step: 1.0 + 1e-5 * (step % 7)).go(1800),
    "hang": lambda run: run.rest(120).go(30),
    "checkpoint_overdue": lambda run: saves(run, 100, 100, 100, 100, 100, 450),
    "checkpoint_slow": lambda run: saves(run, 100, 100, 100, 100, took_s=(5, 5, 5, 20, 5)),
    "checkpoint_failed": lambda run: failing_save(run).go(700),
    "workers_dying": lambda run: workers(run).go(60, rows={(rn.CHILDREN_COUNT, ()): 2}).go(60),
}
"""What each rule is for, and how it passes. After five healthy minutes."""


def saves(run, *gaps, took_s=(5, 5, 5, 5, 5, 5, 5)):
    """Checkpoints with so many seconds between them."""
    for took, gap in zip(took_s, (*gaps, 90), strict=False):
        start_ns = run.builder.end_ns
        run.rest(took)
        run.builder.event(names.CHECKPOINT, start_ns, took * SECOND, attributes={names.CHECKPOINT_KIND: "save"})
        run.go(gap)
    return run


def failing_save(run):
    """A checkpoint that raised."""
    error = {"type": "OSError", "message": "No space left on device"}
    run.builder.event(names.CHECKPOINT, run.builder.end_ns, SECOND, error=error)
    return run


def workers(run):
    """A loader with four workers feeds the training."""
    told = {names.LOADER_TRAINS: True, names.LOADER_WORKERS: 4}
    run.builder.event(names.DATA_LOADER, run.builder.end_ns, attributes=told)
    return run
