"""What a recorded step costs the training thread: wait for data, forward, backward, optimizer, samples.

    python benchmarks/step_cost.py [--steps 2000] [--rounds 25]

The step itself is empty, so that nothing hides the cost. Beside it, in the same process and alternating with it: the
same step as five spans of the plain OpenTelemetry SDK (BatchSpanProcessor, an exporter that does nothing); and, each in
a process of its own because they keep global state, nv-one-logger and TraceML where installed.

nv-one-logger gets training_iteration() and four timed_span()s, exported to a file with its default filter; the batch
size is in its configuration. TraceML gets trace_step() in manual mode with wrapped loader, forward, backward and
optimizer, its aggregator off: the hot path alone, which is less than what its documentation has one run. It has no
field for samples.
"""

import argparse
import contextlib
import itertools
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable

from rounds import Loop, added_cost_ns, row

GOAL_US, GOAL_RATIO = 5.0, 30.0


def bare(steps: int) -> None:
    """The loop without any step in it."""
    for _ in itertools.repeat(None, steps):
        pass


def otel_train_loop() -> Loop:
    """The public API, as a script would write it."""
    import otel_train

    otel_train.init(dir=tempfile.mkdtemp())
    trace_step, trace_phase = otel_train.trace_step, otel_train.trace_phase

    def loop(steps: int) -> None:
        for _ in otel_train.trace_dataloader(itertools.repeat([0] * 8, steps)):
            with trace_step(samples=8):
                with trace_phase("forward"):
                    pass
                with trace_phase("backward"):
                    pass
                with trace_phase("optimizer"):
                    pass

    return loop


def sdk_loop() -> Loop:
    """Five spans a step: the step with its number and samples, and four children."""
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult

    class Nowhere(SpanExporter):
        def export(self, spans: object) -> SpanExportResult:
            return SpanExportResult.SUCCESS

    import logging

    logging.getLogger("opentelemetry").setLevel(logging.CRITICAL)  # "Queue full", at this rate
    provider = TracerProvider()
    provider.add_span_processor(BatchSpanProcessor(Nowhere()))
    span = provider.get_tracer("benchmark").start_as_current_span

    def loop(steps: int) -> None:
        for number in range(steps):
            with span("step", attributes={"dl.iteration": number, "dl.batch_size": 8}):
                with span("data_wait"):
                    pass
                with span("forward"):
                    pass
                with span("backward"):
                    pass
                with span("optimizer"):
                    pass

    return loop


def one_logger_loop() -> Loop:
    """nv-one-logger as its example has it, with the phases of its span table."""
    from pathlib import Path

    from nv_one_logger.api.config import LoggerConfig, OneLoggerConfig
    from nv_one_logger.api.timed_span import timed_span
    from nv_one_logger.exporter.file_exporter import FileExporter
    from nv_one_logger.training_telemetry.api import context
    from nv_one_logger.training_telemetry.api.config import TrainingTelemetryConfig
    from nv_one_logger.training_telemetry.api.spans import StandardTrainingJobSpanName as Name
    from nv_one_logger.training_telemetry.api.training_telemetry_provider import TrainingTelemetryProvider

    folder = Path(tempfile.mkdtemp())
    logs = LoggerConfig(log_file_path_for_info=str(folder / "info"), log_file_path_for_err=str(folder / "error"))
    provider = TrainingTelemetryProvider.instance()
    provider.with_base_config(
        OneLoggerConfig(application_name="b", session_tag_or_fn="b", world_size_or_fn=1, logger_config=logs)
    )
    provider.with_exporter(FileExporter(file_path=folder / "telemetry.json")).configure_provider()
    stack = contextlib.ExitStack()
    stack.enter_context(context.application())
    provider.set_training_telemetry_config(
        TrainingTelemetryConfig(
            perf_tag_or_fn="b",
            global_batch_size_or_fn=8,
            log_every_n_train_iterations=50,
            is_log_throughput_enabled_or_fn=True,
            flops_per_sample_or_fn=1,
            train_iterations_target_or_fn=10**9,
            train_samples_target_or_fn=10**9,
        )
    )

    def loop(steps: int, application: contextlib.ExitStack = stack) -> None:  # let go of, it would end
        with context.training_loop(train_iterations_start=0):  # a fresh one: its cost a step grows with its age
            for _ in itertools.repeat(None, steps):
                with context.training_iteration():
                    with timed_span(Name.DATA_LOADING):
                        pass
                    with timed_span(Name.MODEL_FORWARD):
                        pass
                    with timed_span(Name.MODEL_BACKWARD):
                        pass
                    with timed_span(Name.OPTIMIZER_UPDATE):
                        pass

    return loop


def traceml_loop() -> Loop:
    """TraceML's manual mode around objects that do nothing."""
    import torch
    import traceml_ai as traceml
    from traceml_ai.runtime.state import configure_trace_recording
    from traceml_ai.sdk import initial

    class Nothing:
        def backward(self) -> None:
            pass

        def step(self) -> None:
            pass

        def zero_grad(self) -> None:
            pass

    class Model(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.parameter = torch.nn.Parameter(torch.zeros(1))

        def forward(self, batch: object) -> Nothing:
            return nothing

    nothing, off = Nothing(), dict.fromkeys(["dataloader", "forward", "backward", "h2d"], False)
    initial._INIT_CONFIG = initial.TraceMLInitConfig(
        mode="manual", **{f"patch_{name}": value for name, value in off.items()}
    )
    configure_trace_recording(None)
    model, optimizer = traceml.wrap_forward(Model()), traceml.wrap_optimizer(Nothing())

    def loop(steps: int) -> None:
        for batch in traceml.wrap_dataloader_fetch(itertools.repeat(None, steps)):
            with traceml.trace_step(model):
                traceml.wrap_backward(model(batch)).backward()
                optimizer.step()

    return loop


OTHERS: dict[str, tuple[str, Callable[[], Loop]]] = {
    "nv-one-logger": ("nv_one_logger", one_logger_loop),
    "TraceML": ("traceml_ai", traceml_loop),
}


def main() -> None:
    """Print the table, and how it stands to the goals."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--rounds", type=int, default=25)
    parser.add_argument("--only", choices=list(OTHERS), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.only:
        print(row(options.only, added_cost_ns(bare, OTHERS[options.only][1](), options.steps, options.rounds)))
        return
    print(f"Python {sys.version.split()[0]}, {options.rounds} rounds of {options.steps} steps, µs a step")
    print(f"{'':44}{'minimum':>10}{'median':>10}")
    sdk, ours = sdk_loop(), otel_train_loop()
    sdk_ns: list[float] = []
    ours_ns: list[float] = []
    for _ in range(options.rounds):
        ours_ns += added_cost_ns(bare, ours, options.steps, 1)
        sdk_ns += added_cost_ns(bare, sdk, options.steps, 1)
    print(row("otel_train", ours_ns))
    print(row("five spans of the OpenTelemetry SDK", sdk_ns))
    for name in OTHERS:
        print(_other(name, options))
    ours_us, ratio = statistics.median(ours_ns) / 1000, statistics.median(sdk_ns) / statistics.median(ours_ns)
    print(f"otel_train: {ours_us:.2f} µs a step (goal: at most {GOAL_US:g}), {ratio:.0f} times less than the spans "
          f"(goal: {GOAL_RATIO:g}); by the minima {min(sdk_ns) / min(ours_ns):.0f}")  # fmt: skip


def _other(name: str, options: argparse.Namespace) -> str:
    command = [sys.executable, __file__, "--only", name, "--steps", str(options.steps), "--rounds", str(options.rounds)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tempfile.mkdtemp(), env={**os.environ})
    lines = [line for line in done.stdout.splitlines() if line.startswith(name)]
    if lines:
        return lines[-1]
    error = done.stderr.strip().splitlines()[-1:] or ["no output"]
    return f"{name:44}not measured: {error[0]}"


if __name__ == "__main__":
    main()
