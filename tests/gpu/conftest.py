"""What needs a GPU. Skipped where there is none; run on one with ``pytest tests/gpu -rA``."""

import pytest


@pytest.fixture(autouse=True)
def cuda():
    """Skip without a CUDA device."""
    torch = pytest.importorskip("torch")
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    return torch
