"""Peak rates of devices, for dense matrices (no sparsity), in FLOP/s; and what a step's operators calculated."""

from collections.abc import Callable, Sequence
from math import prod
from typing import Any

from otel_train.profiles.trace import OPERATOR, Trace

PEAKS = {
    "H200": 989e12,
    "H100 NVL": 835e12,
    "H100 PCIe": 756e12,
    "H100": 989e12,
    "GH200": 989e12,
    "B200": 2250e12,
    "A100": 312e12,
    "A10G": 70e12,
    "A10": 125e12,
    "L40S": 362e12,
    "L4": 121e12,
    "V100": 125e12,
    "T4": 65e12,
    "MI300X": 1307e12,
    "MI250X": 383e12,
}
"""By a part of the device's name, the longer one first: bf16 (fp16 for V100 and T4) on tensor cores, accumulating in
fp32. From the makers' data sheets: NVIDIA H200, H100 (SXM, PCIe, NVL), GH200, B200, A100, A10, L40S, L4, V100, T4; AMD
Instinct MI300X and MI250X. Where a sheet states rates with sparsity, half of them. A10G: Amazon's g5 page."""


def peak_flops(device_name: str | None) -> float | None:
    """The device's peak; None where it is not known, rather than a guess."""
    for part in sorted(PEAKS, key=len, reverse=True):
        if device_name and part.lower() in device_name.lower().replace("-", " "):
            return PEAKS[part]
    return None


def flops(trace: Trace, start_ns: int, end_ns: int) -> float | None:
    """Multiplications and additions of the matrix operators that began in the window; None where no shapes are known.

    2 m n k for a product of (m, k) and (k, n); a convolution 2 for each output element and weight it meets; attention
    4 b h s t d, and 2.5 times that backward (Dao, FlashAttention-2, 2023, section 4.1), causal masks not subtracted.
    """
    if not trace.shapes:
        return None
    total = 0.0
    for index, shapes in trace.shapes.items():
        if trace.kind[index] == OPERATOR and start_ns <= trace.start_ns[index] < end_ns:
            rule = RULES.get(trace.named(index))
            total += rule(shapes) if rule is not None and _known(shapes) else 0.0
    return total


def _known(shapes: Sequence[Any]) -> bool:
    return all(isinstance(shape, list) and all(isinstance(size, int) for size in shape) for shape in shapes)


def _product(shapes: Sequence[Any], first: int = 0) -> float:
    left, right = shapes[first], shapes[first + 1]
    return 2.0 * prod(left) * right[-1] if len(left) >= 2 and len(right) >= 2 else 0.0


def _attention(shapes: Sequence[Any]) -> float:
    query, key = shapes[0], shapes[1]
    return 4.0 * prod(query) * key[-2] if len(query) == 4 and len(key) == 4 else 0.0


def _attention_backward(shapes: Sequence[Any]) -> float:
    return 2.5 * _attention(shapes[1:])


def _convolution(shapes: Sequence[Any]) -> float:
    """Stride and padding are no shapes: an output as large as the input is assumed, which is right for most."""
    image, weight = shapes[0], shapes[1]
    return 2.0 * image[0] * prod(image[2:]) * prod(weight) if len(image) >= 3 and len(weight) == len(image) else 0.0


RULES: dict[str, Callable[[Sequence[Any]], float]] = {
    "aten::mm": _product,
    "aten::addmm": lambda shapes: _product(shapes, 1),
    "aten::_addmm_activation": lambda shapes: _product(shapes, 1),
    "aten::bmm": _product,
    "aten::baddbmm": lambda shapes: _product(shapes, 1),
    "aten::_scaled_mm": _product,
    "aten::_scaled_dot_product_flash_attention": _attention,
    "aten::_scaled_dot_product_efficient_attention": _attention,
    "aten::_scaled_dot_product_cudnn_attention": _attention,
    "aten::_scaled_dot_product_flash_attention_for_cpu": _attention,
    "aten::_scaled_dot_product_flash_attention_backward": _attention_backward,
    "aten::_scaled_dot_product_efficient_attention_backward": _attention_backward,
    "aten::_scaled_dot_product_cudnn_attention_backward": _attention_backward,
    "aten::_scaled_dot_product_flash_attention_for_cpu_backward": _attention_backward,
    "aten::_convolution": _convolution,
    "aten::convolution_backward": lambda shapes: 2 * _convolution(shapes[1:]),
}
"""The operators that calculate, each at one level of the calls only, so that none counts twice."""
