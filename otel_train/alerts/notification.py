"""What an alert says, whatever the way it takes to somebody."""

from dataclasses import dataclass, field
from typing import Any

INFO, WARNING, CRITICAL = "info", "warning", "critical"
SEVERITIES = (INFO, WARNING, CRITICAL)
"""From the least to the most urgent."""


@dataclass(frozen=True)
class Notification:
    """An alert that fires, or is over. All of it is fit for the public: no secret is ever part of it."""

    rule: str
    severity: str
    resolved: bool
    summary: str
    """One sentence with the figures: what is so, since when."""
    advice: str
    """What it means and what to do; empty for a rule of the user's that says nothing."""
    unix_s: float
    """When it fired, or was over."""
    run_id: str
    rank: int
    host: str
    label: str = ""
    """Which of several things it is about: a GPU, a file system; empty where there is but one."""
    step: int | None = None
    value: float | None = None
    """Of the rule's measure, in its own unit."""
    threshold: float | None = None
    extra: dict[str, Any] = field(default_factory=dict)
