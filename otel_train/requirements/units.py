"""Quantities as a person writes them: ``250 ms``, ``1.5 GiB``, ``70 %``, ``50k``, ``3M/min``.

A measure's unit is UCUM's, as OpenTelemetry writes it. What can be written for it follows from that: there is one table
for each dimension, with what one of the unit is in the measure's. Arithmetic is exact until the last rounding, so that
``70 %`` is the float 0.7, and a value that is as large as a bound is not missed by a digit that nobody wrote.
"""

import math
import re
from dataclasses import dataclass
from fractions import Fraction
from typing import TypeAlias

Factors: TypeAlias = dict[str, int | Fraction]
"""By what is written: how much of the measure's unit one is."""

THOUSANDS: Factors = {"": 1, "k": 10**3, "M": 10**6, "G": 10**9, "T": 10**12}
SECONDS: Factors = {
    "ns": Fraction(1, 10**9), "µs": Fraction(1, 10**6), "us": Fraction(1, 10**6), "ms": Fraction(1, 10**3),
    "s": 1, "min": 60, "h": 3600, "d": 86400,
}  # fmt: skip
BYTES: Factors = {
    "B": 1, "kB": 10**3, "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12,
    "KiB": 2**10, "MiB": 2**20, "GiB": 2**30, "TiB": 2**40,
}  # fmt: skip
PARTS: Factors = {"%": Fraction(1, 100), "": 1}

DIMENSIONS: dict[str, tuple[str, Factors]] = {
    "s": ("a time", SECONDS),
    "By": ("a size in bytes", BYTES),
    "1": ("a part of one", PARTS),
    "J": ("an energy", {"J": 1, "kJ": 10**3, "MJ": 10**6, "Wh": 3600, "kWh": 3600 * 10**3, "MWh": 3600 * 10**6}),
    "W": ("a power", {"mW": Fraction(1, 1000), "W": 1, "kW": 10**3, "MW": 10**6}),
    "Hz": ("a frequency", {"Hz": 1, "kHz": 10**3, "MHz": 10**6, "GHz": 10**9}),
    "Cel": ("a temperature", {"°C": 1, "Cel": 1}),
    "h": ("a time in hours", {"min": Fraction(1, 60), "h": 1, "d": 24}),
    "": ("a number", THOUSANDS | PARTS),
}
"""By UCUM unit: what it measures, and what can be written for it with what one of that is in the unit."""

KINDS = {**{ucum: words for ucum, (words, _) in DIMENSIONS.items() if ucum},
         "By/s": "bytes a second", "{event}": "a number", "{event}/s": "a number a second"}  # fmt: skip
"""What a unit that is wrong for a measure may have been meant for."""

PERIODS = {"s": 1, "min": 60, "h": 3600, "d": 86400}

NUMBER = r"[+-]?(?:[0-9]+(?:_[0-9]+)*(?:\.[0-9]+)?|\.[0-9]+)(?:[eE][+-]?[0-9]{1,3})?"
LONGEST = 100
"""Characters of a quantity. More digits than that say nothing."""

NEAR = {
    "m": "min for minutes, ms for milliseconds", "sec": "s", "secs": "s", "second": "s", "seconds": "s", "msec": "ms",
    "hr": "h", "hour": "h", "hours": "h", "minute": "min", "minutes": "min", "days": "d", "K": "k", "percent": "%",
    "Gb": "GB, or GiB", "Mb": "MB, or MiB", "G": "GB, or GiB", "Gi": "GiB", "Mi": "MiB", "M": "MB, or MiB", "C": "°C",
}  # fmt: skip
"""What is often written, and what is meant."""


@dataclass(frozen=True)
class Quantity:
    """A number in a unit as it was written, of a measure whose unit is ``ucum``."""

    number: Fraction
    spelling: str
    """One of ``spellings(ucum)``."""
    ucum: str

    @property
    def value(self) -> float:
        """In the measure's own unit: the float that is nearest to what was written."""
        return float(self.number * Fraction(spellings(self.ucum)[self.spelling]))

    def __str__(self) -> str:
        """Reads back as the same quantity, where the number is one that has an end."""
        return _joined(_decimal(self.number), self.spelling, self.ucum)


def spellings(ucum: str) -> Factors:
    """What may be written for a unit, with what one of it is in the unit."""
    if ucum.endswith("/s"):
        per = {f"{unit}/{period}": Fraction(factor) / seconds
               for unit, factor in spellings(ucum.removesuffix("/s")).items()
               for period, seconds in PERIODS.items()}  # fmt: skip
        bare = {unit: factor for unit, factor in THOUSANDS.items() if _noun(ucum)}
        return {**bare, **per}
    if ucum in DIMENSIONS:
        return DIMENSIONS[ucum][1]
    return THOUSANDS if _noun(ucum) else {ucum: 1}


def read_quantity(text: str, ucum: str) -> Quantity:
    """Read one. Raises ``ValueError``, which says what was got and what is allowed."""
    text = text.strip()
    if len(text) > LONGEST:
        raise ValueError(f"got a quantity of {len(text)} characters; allowed are {LONGEST}")
    match = re.match(NUMBER, text)
    if match is None:
        raise ValueError(f"got {text!r}; allowed is a number{_with_unit(ucum)}")
    rest = text[match.end() :]
    if rest.startswith(","):
        raise ValueError(f"got {text!r}: numbers have no commas. Type 50000 or 50_000, and 0.5 for a half")
    spelling = _spelling(rest.strip(), text, ucum)
    quantity = Quantity(Fraction(match[0].replace("_", "")), spelling, ucum)
    try:
        finite = math.isfinite(quantity.value)
    except OverflowError:
        finite = False
    if not finite:
        raise ValueError(f"got {text!r}, which is more than a float can hold")
    return quantity


def told(value: float, like: Quantity, apart_from: float | None = None, digits: int = 4) -> str:
    """A value in the unit that another quantity was written in, with ``digits`` of them, and all of an integer part.

    With more where it would read as ``apart_from`` does, and is not the same.
    """
    number = _in_unit(value, like)
    if apart_from is not None and apart_from != value:
        other = _in_unit(apart_from, like)
        usual = _rounded(other, digits)
        while digits < 17 and _rounded(number, digits) in (_rounded(other, digits), usual):
            digits += 1
    return _joined(_rounded(number, digits), like.spelling, like.ucum)


def _in_unit(value: float, like: Quantity) -> float:
    """Infinite where no float holds it."""
    try:
        return float(Fraction(value) / Fraction(spellings(like.ucum)[like.spelling]))
    except OverflowError:
        return math.copysign(math.inf, value)


def _spelling(written: str, text: str, ucum: str) -> str:
    """Without what is counted: ``k/s`` for ``k tokens / s``."""
    short, noun = re.sub(r"\s*/\s*", "/", written), _noun(ucum)
    if noun:
        short = re.sub(rf"^([kMGT]?)\s*(?:{noun}|{_plural(noun)})(?=/|$)", r"\1", short)
    if short in spellings(ucum):
        return short
    raise ValueError(_wrong_unit(short, text, ucum))


def _wrong_unit(written: str, text: str, ucum: str) -> str:
    allowed = f"allowed is a number{_with_unit(ucum)}"
    if not written:
        return f"got {text!r} without a unit; {allowed}"
    near = NEAR.get(written, "")
    meant = f" (is {near} meant?)" if set(re.findall(r"[^\s,]+", near)) & set(spellings(ucum)) else ""
    for other, words in KINDS.items():
        if other != ucum and written in spellings(other):
            return f"got {text!r}: {written!r} goes with {words}, the measure is {_kind(ucum)}{meant}; {allowed}"
    return f"got {text!r}: {written!r} is no unit of {_kind(ucum)}{meant}; {allowed}"


def _kind(ucum: str) -> str:
    if ucum in DIMENSIONS:
        return DIMENSIONS[ucum][0]
    noun, rate = _noun(ucum), " a second" if ucum.endswith("/s") else ""
    return f"a number of {_plural(noun)}{rate}" if noun else KINDS.get(ucum, ucum)


def _with_unit(ucum: str) -> str:
    units = [unit for unit in spellings(ucum) if unit]
    if ucum.endswith("/s"):
        units = [unit for unit in units if unit.endswith("/s")] + ["or /min, /h, /d in place of /s"]
    bare = " alone, or" if "" in spellings(ucum) else ""
    return f"{bare} with one of {', '.join(units)}"


def _noun(ucum: str) -> str | None:
    """What is counted: ``token`` for ``{token}`` and ``{token}/s``; None for units that are no annotation."""
    match = re.fullmatch(r"\{([^{}]*)\}(?:/s)?", ucum)
    return re.sub(r"[^A-Za-z]+", " ", match[1]) if match else None


def _plural(noun: str) -> str:
    if re.search(r"[^aeiou]y$", noun):
        return f"{noun[:-1]}ies"
    return f"{noun}es" if noun.endswith(("s", "x", "ch", "sh")) else f"{noun}s"


def _joined(number: str, spelling: str, ucum: str) -> str:
    """A rate that was written bare is told with its second."""
    if ucum.endswith("/s") and "/" not in spelling:
        spelling += "/s"
    return f"{number} {spelling}" if spelling and not spelling.startswith("/") else f"{number}{spelling}"


def _decimal(number: Fraction) -> str:
    """All digits of a number with an end; of others as many as a float has."""
    rest, twos_and_fives = number.denominator, 0
    while rest % 10 == 0:
        rest, twos_and_fives = rest // 10, twos_and_fives + 1
    for prime in (2, 5):
        while rest % prime == 0:
            rest, twos_and_fives = rest // prime, twos_and_fives + 1
    if rest != 1:
        return repr(float(number))
    shifted = f"{abs(number.numerator) * 10**twos_and_fives // number.denominator:0{twos_and_fives + 1}}"
    whole, part = shifted[: len(shifted) - twos_and_fives], shifted[len(shifted) - twos_and_fives :].rstrip("0")
    return f"{'-' if number < 0 else ''}{whole}{'.' if part else ''}{part}"


def _rounded(number: float, digits: int) -> str:
    if number == 0 or math.isinf(number):
        return f"{number:.0f}"
    size = math.floor(math.log10(abs(number)))
    if not -6 <= size < 15:  # as a power of ten
        return f"{number:.{digits}g}"
    text = f"{number:.{max(0, digits - 1 - size)}f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


__all__ = ["Quantity", "read_quantity", "spellings", "told"]
