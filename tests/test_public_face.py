"""What is public, what it imports, and what its types say."""

import ast
import os
import subprocess
import sys
import types
from pathlib import Path

import pytest

import otel_train
import otel_train.testing

ROOT = Path(__file__).parent.parent
HEAVY = ("torch", "numpy", "opentelemetry", "rich", "click", "yaml", "psutil", "pynvml", "pyarrow", "google.protobuf")


@pytest.mark.parametrize("module", [otel_train, otel_train.testing], ids=lambda module: module.__name__)
def test_all_is_what_is_public(module):
    """``__all__`` has the public names of the module, all of them, each with a docstring."""
    own = {
        name
        for name, thing in vars(module).items()
        if not name.startswith("_") and not isinstance(thing, types.ModuleType)
    }
    if module is otel_train:
        assert set(module.__all__) == own | {"__version__", *otel_train.lazily.PLACES}
    assert sorted(module.__all__) == list(module.__all__)
    for name in module.__all__:
        assert name == "__version__" or getattr(module, name).__doc__, name


def test_init_file_has_names_only():
    """The package's own file imports and names; it does nothing."""
    body = ast.parse((ROOT / "otel_train" / "__init__.py").read_text()).body
    assert {"Expr", "ImportFrom", "Assign"} == {type(node).__name__ for node in body}
    assert [["__all__"]] == [[target.id for target in node.targets] for node in body if isinstance(node, ast.Assign)]


def test_import_is_light():
    """Importing otel_train loads neither torch nor the SDK nor numpy nor any other package."""
    program = f"import sys, otel_train; print([name for name in {HEAVY} if name in sys.modules])"
    environ = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", program], env=environ, capture_output=True, text=True, check=True)
    assert "[]\n" == done.stdout


def test_recording_needs_no_opentelemetry(tmp_path):
    """A run without an endpoint, and its report, load neither torch nor OpenTelemetry."""
    program = (
        "import sys, otel_train\n"
        "with otel_train.init():\n"
        "    with otel_train.trace_step(): otel_train.log(loss=1.0)\n"
        "from otel_train.cli import group\n"
        "try: group(['report'])\n"
        "except SystemExit: pass\n"
        "print([name for name in ('torch', 'opentelemetry') if name in sys.modules])\n"
    )
    environ = {**os.environ, "PYTHONPATH": str(ROOT), "OTEL_TRAIN_DIR": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", program], env=environ, capture_output=True, text=True, check=True)
    assert "[]" == done.stdout.splitlines()[-1]


TYPED = '''
import otel_train
from typing import List

@otel_train.trace_step
def bare(x: int) -> str:
    """Doc."""
    return str(x)

@otel_train.trace_step(samples=lambda batch: len(batch), tokens=5)
def step(batch: List[int]) -> float:
    return 1.0

@otel_train.trace_phase("forward")
def phase(x: int, *, scale: float = 1.0) -> bytes:
    return b""

@otel_train.trace_epoch(1)
def epoch() -> None: ...

@otel_train.trace_evaluation("v")
def evaluation(a: str) -> int:
    return 1

@otel_train.trace_checkpoint("p", kind="load")
def checkpoint() -> int:
    return 1

@otel_train.timed("t")
async def timed(x: int) -> int:
    return x

reveal_type(bare)
reveal_type(step)
reveal_type(phase)
reveal_type(epoch)
reveal_type(evaluation)
reveal_type(checkpoint)
reveal_type(timed)
for batch in otel_train.trace_dataloader([[1, 2]]):
    reveal_type(batch)
bare("wrong")
phase(1, scale="wrong")
otel_train.trace_checkpoint("p", kind="move")
'''

REVEALED = [
    "def (x: int) -> str",
    "def (batch: list[int]) -> float",
    "def (x: int, *, scale: float =) -> bytes",
    "def ()",
    "def (a: str) -> int",
    "def () -> int",
    "def (x: int) -> typing.Coroutine[Any, Any, int]",
    "list[int]",
]


def test_types_survive_decoration(tmp_path):
    """mypy sees a decorated function as it was written, and a wrong call of it as an error."""
    (tmp_path / "typed.py").write_text(TYPED)
    command = [
        sys.executable,
        "-m",
        "mypy",
        "--strict",
        "--no-error-summary",
        "--follow-imports",
        "silent",
        "--cache-dir",
        str(tmp_path / "cache"),
    ]
    environ = {**os.environ, "MYPYPATH": str(ROOT)}
    done = subprocess.run(
        [*command, "typed.py"], env=environ, cwd=tmp_path, capture_output=True, text=True, timeout=280
    )
    revealed = [
        line.partition("Revealed type is ")[2].strip('"') for line in done.stdout.splitlines() if "Revealed" in line
    ]
    assert REVEALED == [text.replace("builtins.", "") for text in revealed], done.stdout + done.stderr
    errors = [line for line in done.stdout.splitlines() if "error:" in line]
    assert ["arg-type"] * 3 == [line.rpartition("[")[2].rstrip("]") for line in errors], done.stdout


def test_name_and_docstring_survive_decoration():
    """``functools.wraps`` all the way: name, docstring, module and the function itself."""

    def train(batch, *, scale=1):
        """Train a batch."""

    for decorate in (
        otel_train.trace_step,
        otel_train.trace_step(samples=1),
        otel_train.trace_phase("p"),
        otel_train.trace_epoch(1),
        otel_train.trace_checkpoint("p"),
        otel_train.timed("t"),
    ):
        decorated = decorate(train)
        assert ("train", "Train a batch.", train) == (decorated.__name__, decorated.__doc__, decorated.__wrapped__)
