"""Numbers as a person reads them. What is missing is ``-``, never 0."""

import math
from collections.abc import Sequence
from datetime import datetime
from itertools import pairwise

MISSING = "-"
SPARKS = "▁▂▃▄▅▆▇█"
EIGHTHS = " ▏▎▍▌▋▊▉"
MINUTE_S, HOUR_S, DAY_S = 60, 3600, 86400


def seconds(value: float | None) -> str:
    """A time with three digits and a fitting unit: ``850 µs``, ``12.3 ms``, ``3 min 20 s``, ``2 d 4 h``."""
    if value is None:
        return MISSING
    if value < 60:
        for unit, factor in (("s", 1.0), ("ms", 1e-3), ("µs", 1e-6)):
            if value >= 0.9995 * factor:
                return f"{three_digits(value / factor)} {unit}"
        return f"{three_digits(value / 1e-9)} ns" if value else "0 s"
    whole = round(value)
    if whole < HOUR_S:
        return f"{whole // MINUTE_S} min {whole % MINUTE_S:02} s"
    if whole < DAY_S:
        return f"{whole // HOUR_S} h {whole % HOUR_S // MINUTE_S:02} min"
    return f"{whole // DAY_S} d {whole % DAY_S // HOUR_S} h"


def about(value: float | None) -> str:
    """A time in one unit: ``51 s``, ``18 min``, ``3.2 h``."""
    if value is None or value < 99.5:
        return seconds(value) if value is None else f"{value:.0f} s"
    if value < 99.5 * MINUTE_S:
        return f"{value / MINUTE_S:.0f} min"
    return f"{value / HOUR_S:.1f} h" if value < 3 * DAY_S else f"{value / DAY_S:.1f} d"


def three_digits(value: float) -> str:
    """``1.23``, ``12.3``, ``123``."""
    decimals = 2 if value < 9.995 else 1 if value < 99.95 else 0
    return f"{value:.{decimals}f}"


def amount(value: float | None) -> str:
    """A count or rate: ``412``, ``13.2 k``, ``3.41 M``."""
    if value is None:
        return MISSING
    for unit, factor in (("T", 1e12), ("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if value >= 9.995 * factor or (unit != "k" and value >= 0.9995 * factor):
            return f"{three_digits(value / factor)} {unit}"
    return f"{value:,.0f}" if value >= 999.5 or value == int(value) else three_digits(value)


def rate(value: float | None) -> str:
    """Something a second: ``13.2 k/s``."""
    return MISSING if value is None else f"{amount(value)}/s"


def integer(value: float | None) -> str:
    """A whole number with thousands separated."""
    return MISSING if value is None else f"{value:,.0f}"


def size(value: float | None) -> str:
    """Bytes in binary units: ``1.20 GiB``."""
    if value is None:
        return MISSING
    for unit, factor in (("TiB", 2**40), ("GiB", 2**30), ("MiB", 2**20), ("KiB", 2**10)):
        if value >= factor:
            return f"{three_digits(value / factor)} {unit}"
    return f"{value:.0f} B"


def percent(share: float | None) -> str:
    """A share as a percentage with one decimal."""
    return MISSING if share is None else f"{share * 100:.1f} %"


def number(value: float | None) -> str:
    """A logged value, four digits: ``1.834``, ``3e-04``."""
    return MISSING if value is None else f"{value:.4g}"


def moment(unix_s: float | None) -> str:
    """Local date and time."""
    if unix_s is None:
        return MISSING
    return datetime.fromtimestamp(unix_s).strftime("%Y-%m-%d %H:%M:%S")


def sparkline(values: Sequence[float | None], width: int, from_zero: bool = False) -> str:
    """The course of some values in at most ``width`` characters; a space where there is none, empty without any.

    The lowest bar is the smallest value, or zero, so that small differences stay small.
    """
    values = shortened(values, width)
    known = [value for value in values if value is not None]
    if not known:
        return ""
    low, high = 0.0 if from_zero else min(known), max(known)
    scale = (len(SPARKS) - 1) / (high - low) if high > low else 0.0
    return "".join(" " if value is None else SPARKS[round((value - low) * scale)] for value in values)


def shortened(values: Sequence[float | None], width: int) -> list[float | None]:
    """At most ``width`` values: means of equal parts, of what is known and finite in each."""
    parts = min(len(values), max(width, 1))
    edges = [index * len(values) // parts for index in range(parts + 1)] if parts else []
    means: list[float | None] = []
    for first, end in pairwise(edges):
        known = [value for value in values[first:end] if value is not None and math.isfinite(value)]
        means.append(sum(known) / len(known) if known else None)
    return means


def bar(share: float, width: int) -> str:
    """A horizontal bar of up to ``width`` characters, to an eighth of a character."""
    eighths = round(min(max(share, 0.0), 1.0) * width * 8)
    return "█" * (eighths // 8) + (EIGHTHS[eighths % 8] if eighths % 8 else "")


def plural(count: int, noun: str) -> str:
    """``1 step``, ``2,000 steps``."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"
