"""What a profile says in a sentence, and what to do about it, with the evidence and the most that it could save."""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from otel_train.profiles.analysis import COMPUTE, INPUT, Analysis
from otel_train.profiles.device import COMMUNICATION, COPIES, LAUNCH, MEMORY, SYNCHRONISATION, TENSOR_CORES
from otel_train.profiles.operators import Row
from otel_train.profiles.trace import ANNOTATION, COPY, OPERATOR

WORTH = 0.02
"""Advice that could save less than this part of the window is not given."""

OPTIMIZER_MARK = re.compile(r"^Optimizer\.step#")
FUSED = re.compile(r"_fused_")
LAYOUT = re.compile(r"nchwToNhwc|nhwcToNchw|NCHWToNHWC|NHWCToNCHW")
SINGLE_PRECISION = re.compile(r"sgemm|f32f32|_fp32|simt_s|xmma_gemm_f32", re.IGNORECASE)


@dataclass(frozen=True)
class Advice:
    """What to do, why, and the most that it could save of the window (a part of it)."""

    action: str
    evidence: str
    saves: float


def sentence(analysis: Analysis) -> str:
    """What bounds the window."""
    share, on_device = analysis.shares[analysis.bound], analysis.device is not None
    words = ON_DEVICE if on_device else ON_HOST
    return f"{analysis.bound}: {share * 100:.0f} % of the step {words[analysis.bound]}"


ON_DEVICE = {
    INPUT: "the GPU waited because the training waited for its batch.",
    SYNCHRONISATION: "the GPU had nothing to do because the host had waited for it before it gave it more.",
    LAUNCH: "the GPU waited for its next kernel: the host launches them more slowly than the GPU runs them.",
    COMMUNICATION: "only collectives ran on the GPU: no computation hides them.",
    COPIES: "only copies ran on the GPU.",
    COMPUTE: "the GPU multiplied matrices. The model itself bounds it.",
    MEMORY: "the GPU ran kernels that read and write more than they calculate: its memory's bandwidth bounds them.",
}
ON_HOST = {
    INPUT: "was waiting for the batch.",
    COMMUNICATION: "was collective communication, waiting for slower ranks included.",
    COMPUTE: "was multiplying matrices. The model itself bounds it.",
    MEMORY: "was operators that read and write more than they calculate: the memory's bandwidth bounds them.",
    LAUNCH: "was Python, and operators so small that calling them is most of what they cost.",
}


def advice(analysis: Analysis) -> list[Advice]:
    """What could be done, the most promising first. Savings overlap: they do not add up."""
    found = [each for rule in RULES for each in rule(analysis) if each.saves >= WORTH]
    return sorted(found, key=lambda each: (-each.saves, each.action))


Rule = Callable[[Analysis], Iterator[Advice]]


def _input(analysis: Analysis) -> Iterator[Advice]:
    yield Advice(
        "More DataLoader workers, a larger prefetch_factor, or cheaper samples.",
        f"{_percent(analysis.shares[INPUT])} of the step waits for its batch.",
        analysis.shares[INPUT],
    )


def _launch(analysis: Analysis) -> Iterator[Advice]:
    device = analysis.device
    if device is None:
        small = sum(row.calls for row in analysis.table.rows if row.kind == OPERATOR)
        yield Advice(
            "A larger batch, or torch.compile, so that each operator has more to do.",
            f"{small:,} operators; {analysis.table.none_s * 1e3:.3g} ms of the step is Python between them.",
            analysis.shares[LAUNCH],
        )
    elif device.kernels:
        yield Advice(
            "torch.compile(mode='reduce-overhead') makes CUDA graphs of many launches; a larger batch makes kernels "
            "longer.",
            f"{device.kernels:,} kernels of {device.busy_s / device.kernels * 1e6:.3g} µs on average; launching them "
            f"took the host {device.launches_s * 1e3:.3g} ms.",
            analysis.shares[LAUNCH],
        )


def _synchronisations(analysis: Analysis) -> Iterator[Advice]:
    if analysis.device is None or not analysis.waits:
        return
    first, calls = analysis.waits[0], sum(wait.calls for wait in analysis.waits)
    where = first.line or (f"inside {first.operator}" if first.operator else "called by Python")
    more = "" if first.line else " Profile with stacks (OTEL_TRAIN_PROFILE_STACKS=true) to see the line."
    yield Advice(
        "Read results of the GPU less often: keep losses as tensors, log by otel_train.log().",
        f"{calls} calls waited for the GPU, most of all {first.call} {where}.{more}",
        analysis.shares[SYNCHRONISATION],
    )


def _optimizer(analysis: Analysis) -> Iterator[Advice]:
    marks = [row for row in analysis.table.rows if row.kind == ANNOTATION and OPTIMIZER_MARK.search(row.name)]
    fused = any(FUSED.search(row.name) for row in analysis.table.rows)
    if marks and not fused and not any("LBFGS" in row.name for row in marks):
        took_s = sum(row.total_s for row in marks)
        bound = analysis.shares.get(LAUNCH, 0.0) if analysis.device is not None else 1.0
        yield Advice(
            "fused=True for the optimizer (Adam, AdamW, SGD, Adagrad): one kernel instead of many.",
            f"{marks[0].name.partition('#')[2]} takes {took_s * 1e3:.3g} ms of the host.",
            min(took_s / analysis.window_s, 1.0) * bound * 0.7,
        )


def _tensor_cores(analysis: Analysis) -> Iterator[Advice]:
    device = analysis.device
    if device is None or device.tensor_core_share is None:
        return
    single_s = sum(row.device_s for row in analysis.table.kernels if _is_single(row))
    yield Advice(
        "bf16 autocast, or torch.set_float32_matmul_precision('high') for TF32.",
        f"Matrix kernels in full single precision take {single_s * 1e3:.3g} ms; tensor cores are 8 times as fast.",
        single_s / device.window_s * 7 / 8,
    )


def _is_single(row: Row) -> bool:
    return bool(SINGLE_PRECISION.search(row.name)) and not TENSOR_CORES.search(row.name)


def _layout(analysis: Analysis) -> Iterator[Advice]:
    took_s = sum(row.device_s for row in analysis.table.kernels if LAYOUT.search(row.name))
    if analysis.device is not None and took_s:
        yield Advice(
            "model.to(memory_format=torch.channels_last), and the images too.",
            f"Kernels that only change the layout of images take {took_s * 1e3:.3g} ms.",
            took_s / analysis.device.window_s,
        )


def _pinned(analysis: Analysis) -> Iterator[Advice]:
    pageable = [row for row in analysis.table.kernels if row.kind == COPY and "HtoD (Pageable" in row.name]
    if analysis.device is not None and pageable:
        took_s = sum(row.device_s for row in pageable)
        yield Advice(
            "pin_memory=True for the DataLoader, and .to(device, non_blocking=True): copies then run beside the rest.",
            f"{sum(row.calls for row in pageable)} copies from pageable memory take {took_s * 1e3:.3g} ms.",
            took_s / analysis.device.window_s,
        )


def _communication(analysis: Analysis) -> Iterator[Advice]:
    device = analysis.device
    share, hidden = analysis.shares[COMMUNICATION], ""
    if device is not None and device.communication_s:
        hidden = f" ({_percent(1 - device.times_s[COMMUNICATION] / device.communication_s)} of it is hidden)"
    yield Advice(
        "Fewer or smaller collectives: gradient accumulation under no_sync(), bf16 gradients, larger DDP buckets; and "
        "look at the ranks side by side, since a slower one makes the others wait in theirs.",
        f"{_percent(share)} of the step is communication that no computation hides{hidden}.",
        share,
    )


def _memory(analysis: Analysis) -> Iterator[Advice]:
    if analysis.device is not None:
        yield Advice(
            "torch.compile fuses chains of elementwise operators, so that each value is read and written once.",
            f"{_percent(analysis.shares[MEMORY])} of the step is kernels that are bound by memory.",
            analysis.shares[MEMORY] / 2,
        )


def _percent(share: float) -> str:
    return f"{share * 100:.0f} %"


RULES: tuple[Rule, ...] = (
    _input,
    _launch,
    _synchronisations,
    _optimizer,
    _tensor_cores,
    _layout,
    _pinned,
    _communication,
    _memory,
)
