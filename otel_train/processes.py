"""Whether a process that a file names is still the same one, alive."""

import os
from pathlib import Path


def start_ticks_of(pid: int) -> int | None:
    """When a process started, in clock ticks since boot: with the pid it names the process. None where unknown."""
    try:
        content = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    return int(content.rpartition(")")[2].split()[19])


def is_alive(pid: int, start_ticks: int | None) -> bool:
    """Does the process run that had this pid and start? Where the start is unknown, the pid decides."""
    running = start_ticks_of(pid)
    if running is not None:
        return start_ticks is None or running == start_ticks
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return not Path("/proc/self").exists()
