"""Trace and span ids of our own: hashes of what they name, never drawn from a random generator.

The trace of a step has the same id on every rank, with no message between them; and a resumed export gives a span
the id that it had before.
"""

from hashlib import blake2b


def trace_id(*parts: object) -> int:
    """128 bits, not 0, from what names the trace."""
    return _hash(16, parts)


def span_id(*parts: object) -> int:
    """64 bits, not 0, from what names the span."""
    return _hash(8, parts)


def step_trace_id(run_id: str, step: int, epoch: int | None, evaluation: bool) -> int:
    """The trace of a step, which all ranks share. Steps of evaluations are numbered apart."""
    return trace_id(run_id, "evaluation step" if evaluation else "step", epoch, step)


def step_span_id(run_id: str, rank: int, step: int, epoch: int | None, evaluation: bool, slot: int = 0) -> int:
    """A span of a rank's step: slot 0 is the step itself, the others its phases."""
    return span_id(run_id, rank, "evaluation step" if evaluation else "step", epoch, step, slot)


def interval_trace_id(run_id: str, rank: int, index: int) -> int:
    """The trace of one interval of one rank."""
    return trace_id(run_id, rank, "interval", index)


def interval_span_id(run_id: str, rank: int, index: int) -> int:
    """The root span of one interval of one rank."""
    return span_id(run_id, rank, "interval", index)


def _hash(size: int, parts: tuple[object, ...]) -> int:
    digest = blake2b("\0".join(map(str, parts)).encode(), digest_size=size).digest()
    return int.from_bytes(digest, "big") or 1
