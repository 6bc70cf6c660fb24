"""An alert in words: figures with their units, in the rule's own sentence."""

from otel_train.alerts.measures import unit_of
from otel_train.alerts.rules import Rule

UNITS = {"Cel": "°C", "W": "W", "Hz": "Hz", "1/s": "a second", "By": "B", "By/s": "B/s"}
"""How a unit of UCUM is written after its figure."""

BINARY = ("", "Ki", "Mi", "Gi", "Ti", "Pi")


def say(text: str, rule: Rule, label: str, value: float | None) -> str:
    """The text with its figures; a label that is empty leaves no gap."""
    figures = {
        "value": "unknown" if value is None else figure(value, rule.measure),
        "threshold": "" if rule.threshold is None else figure(rule.threshold, rule.measure),
        "label": label,
        "for": duration(rule.for_s),
    }
    for name, words in figures.items():
        text = text.replace("{" + name + "}", words)
    words = " ".join(text.split()).replace(" .", ".").replace(" ,", ",")
    return words.replace("GPU GPU-", "GPU-")  # NVIDIA's ids begin so


def condition(rule: Rule) -> str:
    """When a rule fires and is over."""
    if rule.predicate is not None:
        return f"its function says so for {duration(rule.for_s)}"
    side = "above" if rule.above is not None else "below"
    held = f" for {duration(rule.for_s)}" if rule.for_s else ""
    threshold = 0.0 if rule.threshold is None else rule.threshold
    clear = "" if rule.clear is None or rule.clear == threshold else f"; over at {figure(rule.clear, rule.measure)}"
    return f"{rule.measure} {side} {figure(threshold, rule.measure)}{held}{clear}"


def figure(value: float, measure: str) -> str:
    """A value in words, by its measure's unit: ``93 %``, ``82 °C``, ``1 h 20 min``."""
    unit = unit_of(measure) if measure else ""
    if unit == "1" and not measure.endswith("ratio"):
        return f"{value * 100:.3g} %"
    if unit == "s":
        return duration(value)
    if unit == "By":
        return size(value)
    return f"{value:.3g} {UNITS[unit]}" if unit in UNITS else f"{value:.3g}"


def duration(seconds: float) -> str:
    """A time in the two units that say most of it."""
    if 0 < seconds < 1:
        return f"{seconds * 1e3:.3g} ms"
    if seconds < 60:
        return f"{seconds:.3g} s"
    whole = round(seconds)
    for large, small, name, below in ((86400, 3600, "d", "h"), (3600, 60, "h", "min"), (60, 1, "min", "s")):
        if whole >= large:
            rest = whole % large // small
            return f"{whole // large} {name} {rest} {below}" if rest else f"{whole // large} {name}"
    return f"{whole} s"


def size(number: float) -> str:
    """Bytes with a binary prefix."""
    for prefix in BINARY:
        if abs(number) < 1024 or prefix == BINARY[-1]:
            return f"{number:.3g} {prefix}B"
        number /= 1024
    return f"{number:.3g} B"
