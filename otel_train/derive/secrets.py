"""What of a record may be a secret, hidden: for pages that are sent around and files that are committed."""

import re
from collections.abc import Iterable
from typing import Any

HIDDEN = "(hidden)"
_SECRET_OPTION = re.compile(r"(?i)(token|secret|passw|credential|api[-_]?key|access[-_]?key|auth)")
_USER_OF_URL = re.compile(r"(?<=://)[^/@\s]+@")


def without_secrets(command: Iterable[object]) -> list[str]:
    """A command line without the values of options that sound like secrets, and without passwords in addresses."""
    shown, hides = [], False
    for word in map(str, command):
        name, sign, _ = word.partition("=")
        sounds = bool(_SECRET_OPTION.search(name)) and (name.startswith("-") or bool(sign))
        if hides and not word.startswith("-"):
            shown.append(HIDDEN)
        else:
            shown.append(f"{name}={HIDDEN}" if sounds and sign else _USER_OF_URL.sub(f"{HIDDEN}@", word))
        hides = sounds and not sign
    return shown


def setting_without_secrets(name: str, value: Any) -> str:
    """A setting's value as text; of a mapping each by its own name."""
    if isinstance(value, dict):
        return ", ".join(f"{key}={setting_without_secrets(key, each)}" for key, each in value.items())
    return HIDDEN if _SECRET_OPTION.search(name) else _USER_OF_URL.sub(f"{HIDDEN}@", str(value))
