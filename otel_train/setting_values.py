"""How a setting's text becomes its value. A parser raises ``ValueError`` that says what is allowed."""

import math
import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from urllib.parse import unquote

UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12, "ki": 2**10, "mi": 2**20, "gi": 2**30, "ti": 2**40}

SMALLEST_DISK = 16 * 2**20
SHORTEST_SAMPLING_S = 0.1
SHORTEST_TRACKING_S = 1.0
TRACKERS = ("mlflow", "tensorboard", "wandb")


def flag(value: object) -> bool:
    """``true``/``false``, ``1``/``0``, ``yes``/``no``, ``on``/``off`` in any case."""
    words = {"true": True, "1": True, "yes": True, "on": True, "false": False, "0": False, "no": False, "off": False}
    try:
        return words[str(value).strip().lower()]
    except KeyError:
        raise ValueError("true or false") from None


def size(value: object) -> int:
    """Bytes: a number, or a number with a unit: ``512MiB``, ``2GB``."""
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([kmgt]i?)?b?\s*", str(value), re.IGNORECASE)
    number = int(float(match[1]) * UNITS[(match[2] or "").lower()]) if match else 0
    if number < SMALLEST_DISK:
        raise ValueError("bytes with a unit, at least 16MiB: 512MiB, 2GB")
    return number


def seconds(value: object) -> float:
    """A time in seconds, zero or more."""
    return _number(value, lambda number: number >= 0, "seconds, 0 or more")


def milliseconds_as_seconds(value: object) -> float:
    """A time in milliseconds, as OpenTelemetry's variables have it; kept in seconds."""
    return _number(value, lambda number: number > 0, "milliseconds, more than 0") / 1000


def positive_seconds(value: object) -> float:
    """A time in seconds, more than zero."""
    return _number(value, lambda number: number > 0, "seconds, more than 0")


def sampling_seconds(value: object) -> float:
    """A pace that costs no more than 5 % of a core."""
    return _number(value, lambda number: number >= SHORTEST_SAMPLING_S, f"seconds, at least {SHORTEST_SAMPLING_S}")


def tracker_seconds(value: object) -> float:
    """A pace at which a row is worth its request."""
    return _number(value, lambda number: number >= SHORTEST_TRACKING_S, f"seconds, at least {SHORTEST_TRACKING_S:g}")


def tracker_names(value: object) -> tuple[str, ...]:
    """``off``, ``auto``, or names of trackers with commas; or a list of them."""
    expected = f"off, auto, or some of {', '.join(TRACKERS)}, with commas"
    if isinstance(value, bool):  # off, as YAML reads it
        value = "auto" if value else "off"
    words = [
        str(word).strip().lower() for word in (value if isinstance(value, list | tuple) else str(value).split(","))
    ]
    if words in ([], ["off"], ["none"]):
        return ()
    if words != ["auto"] and not set(words) <= set(TRACKERS):
        raise ValueError(expected)
    return tuple(dict.fromkeys(words))


def factor(value: object) -> float:
    """A number above one."""
    return _number(value, lambda number: number > 1, "a number above 1")


def share_or_off(value: object) -> float | None:
    """A share: ``0.01`` or ``1%``; ``off`` is no limit."""
    text = str(value).strip().lower()
    if text in ("off", "false", "none"):
        return None
    percent = text.endswith("%")
    share = _number(text.removesuffix("%"), lambda number: number > 0, "a share such as 0.01 or 1%, or off")
    share /= 100 if percent else 1
    if share > 1:
        raise ValueError("a share of at most 1, such as 0.01 or 1%, or off")
    return share


def _number(value: object, allowed: Callable[[float], bool], expected: str) -> float:
    try:
        number = float(str(value))
    except ValueError:
        raise ValueError(expected) from None
    if not math.isfinite(number) or not allowed(number):
        raise ValueError(expected)
    return number


def one_step_in(value: object) -> "int | str":
    """``auto``, or a whole number from 1."""
    text = str(value).strip().lower()
    if text == "auto":
        return text
    if not text.isdecimal() or int(text) < 1:
        raise ValueError("auto, or a whole number from 1")
    return int(text)


def one_step_in_or_off(value: object) -> "int | str | None":
    """``off``, ``auto``, or a whole number from 1."""
    if str(value).strip().lower() in ("off", "false", "none", "0"):
        return None
    try:
        return one_step_in(value)
    except ValueError:
        raise ValueError("off, auto, or a whole number from 1") from None


def step_ranges(value: object) -> tuple[tuple[int, int], ...]:
    """Numbers and ranges: ``100,200-203``. First and last of each."""
    parts = [str(part).strip() for part in (value if isinstance(value, (list, tuple)) else str(value).split(","))]
    matches = [re.fullmatch(r"(\d+)(?:-(\d+))?", part) for part in parts]
    found = [(int(match[1]), int(match[2] or match[1])) for match in matches if match is not None]
    if len(found) != len(parts) or any(first > last for first, last in found):
        raise ValueError("step numbers and ranges of them: 100,200-203")
    return tuple(found)


def numbers(value: object) -> tuple[int, ...]:
    """Whole numbers from 0: ``0,8``."""
    parts = [str(part).strip() for part in (value if isinstance(value, (list, tuple)) else str(value).split(","))]
    if not all(part.isdecimal() for part in parts):
        raise ValueError("whole numbers: 0,8")
    return tuple(int(part) for part in parts)


def numbers_or_all(value: object) -> tuple[int, ...] | None:
    """``all``, or whole numbers from 0: ``0,8``."""
    if str(value).strip().lower() == "all":
        return None
    try:
        return numbers(value)
    except ValueError:
        raise ValueError("all, or whole numbers: 0,8") from None


def whole_number(value: object) -> int:
    """A whole number from 1."""
    text = str(value).strip()
    if not text.isdecimal() or int(text) < 1:
        raise ValueError("a whole number from 1")
    return int(text)


def choice(*allowed: str) -> Callable[[object], str]:
    """One of some words."""

    def parse(value: object) -> str:
        word = (
            {True: "on", False: "off"}[value] if isinstance(value, bool) else str(value).strip().lower()
        )  # as in YAML
        if word not in allowed:
            raise ValueError(" or ".join(allowed))
        return word

    return parse


def name(value: object) -> str:
    """Text that is not empty."""
    text = str(value).strip()
    if not text:
        raise ValueError("a name that is not empty")
    return text


def run_name(value: object) -> str:
    """Letters, digits, dot, underscore and hyphen: it names a folder."""
    text = str(value).strip()
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}", text):
        raise ValueError("1 to 128 letters, digits, '.', '_' or '-', a letter or digit first")
    return text


def path(value: object) -> Path:
    """A path; ``~`` is the home directory."""
    return Path(name(value)).expanduser()


def alert_rules(value: object) -> "Path | bool":
    """``on``, ``off``, or a path to rules of one's own."""
    if isinstance(value, bool):
        return value
    words = {"on": True, "true": True, "1": True, "yes": True, "off": False, "false": False, "0": False, "no": False}
    word = str(value).strip().lower()
    return words[word] if word in words else path(value)


def pairs(value: object) -> dict[str, str]:
    """``key=value,key2=value2``, percent-encoded as OpenTelemetry's variables are; or a mapping."""
    if isinstance(value, Mapping):
        return {str(key): str(item) for key, item in value.items()}
    entries = [entry.partition("=") for entry in str(value).split(",") if entry.strip()]
    if any(not separator or not key.strip() for key, separator, _ in entries):
        raise ValueError("key=value,key2=value2")
    return {unquote(key.strip()): unquote(item.strip()) for key, _, item in entries}


def default_directory() -> Path:
    """``$XDG_STATE_HOME/otel_train``, by default ``~/.local/state/otel_train``."""
    return Path(os.environ.get("XDG_STATE_HOME") or Path("~/.local/state").expanduser()) / "otel_train"
