"""A profile as the run's log keeps it: the attributes of an event, and back."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from otel_train import names
from otel_train.profiles.analysis import Analysis

MOST_ROWS = 40
"""Of operators, and of kernels: a span has at most 128 events."""

OTHER, NONE = "(other)", "(no operator)"
"""All that are not among the first; and the time in which none ran."""


@dataclass(frozen=True)
class KeptRow:
    """A row as it is kept. Times in s; ``share`` of the window."""

    name: str
    calls: int
    self_s: float
    total_s: float
    device_s: float
    share: float
    memory: int | None = None
    """Bytes allocated less bytes freed, on the device where that happened, else on the host; None if not recorded."""
    shapes: str | None = None
    """Of the inputs, in the calls that took most; None if not recorded."""


def summary_of(analysis: Analysis) -> dict[str, Any]:
    """The attributes. Shares of operators add up to 1, those of kernels to what the device was busy."""
    table, device = analysis.table, analysis.device
    window_s = analysis.window_s
    operators = [
        KeptRow(
            row.name, row.calls, row.self_s, row.total_s, row.device_s, row.window_s / window_s, row.memory, row.shapes
        )
        for row in table.rows
    ]  # fmt: skip
    attributes: dict[str, Any] = {
        names.PROFILE_BOUND: analysis.bound,
        names.PROFILE_SHARES: {what: _short(share) for what, share in analysis.shares.items() if share},
        names.PROFILE_OPERATORS: [
            *_first(operators),
            [NONE, 1, 0.0, 0.0, 0.0, _short(table.none_s / window_s)],
        ],
    }
    if analysis.slowdown_s:
        attributes[names.PROFILE_SLOWDOWN] = _short(analysis.slowdown_s)
    if device is not None:
        kernels = [
            KeptRow(row.name, row.calls, 0.0, 0.0, row.device_s, row.device_s / device.window_s)
            for row in table.kernels
        ]
        attributes |= {
            names.PROFILE_KERNELS: _first(kernels),
            names.PROFILE_DEVICE_BUSY: _short(device.busy_s),
            names.PROFILE_DEVICE_WINDOW: _short(device.window_s),
            names.PROFILE_KERNEL_COUNT: device.kernels,
            names.PROFILE_LAUNCH_TIME: _short(device.launches_s),
            names.PROFILE_COPY_TIME: _short(device.copy_s),
            names.PROFILE_COPY_IO: device.copied_bytes,
            names.PROFILE_COMMUNICATION_TIME: _short(device.communication_s),
            names.PROFILE_TENSOR_CORE_SHARE: device.tensor_core_share,
            names.PROFILE_WAIT_COUNT: device.waits,
        }
    attributes |= {names.PROFILE_FLOPS: analysis.flops, names.PROFILE_MFU: analysis.mfu}
    return {key: value for key, value in attributes.items() if value is not None}


def _first(rows: Sequence[KeptRow]) -> list[list[Any]]:
    shown, rest = rows[:MOST_ROWS], rows[MOST_ROWS:]
    if rest:
        shown = [
            *shown,
            KeptRow(
                OTHER,
                sum(row.calls for row in rest),
                sum(row.self_s for row in rest),
                0.0,
                sum(row.device_s for row in rest),
                sum(row.share for row in rest),
                None if rest[0].memory is None else sum(row.memory or 0 for row in rest),
            ),
        ]
    return [
        [
            row.name, row.calls, *(_short(value) for value in (row.self_s, row.total_s, row.device_s, row.share)),
            *([] if row.memory is None and row.shapes is None else [row.memory]),
            *([] if row.shapes is None else [row.shapes]),
        ]
        for row in shown
    ]  # fmt: skip


def _short(value: float) -> float:
    return float(f"{value:.6g}")


def kept_rows(attributes: dict[str, Any], table: str) -> list[KeptRow]:
    """The rows of an event's table: ``names.PROFILE_OPERATORS`` or ``names.PROFILE_KERNELS``."""
    return [KeptRow(*row) for row in attributes.get(table, ())]
