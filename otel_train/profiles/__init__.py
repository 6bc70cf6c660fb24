"""What a profile says: torch's own traces, read and judged. Needs numpy alone; no torch, no GPU."""
