"""The live display: its figures, and that it never stands in the way."""

import io
import os
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from log_builder import MS, SECOND, LogBuilder
from rich.console import Console

from otel_train.derive.recent import Recent, recent_of_log
from otel_train.live import Progress
from otel_train.report.live_view import draw, time_left_s
from otel_train.runlog.layout import EVALUATION
from otel_train.runlog.storage import Memory


def drawn(now: Recent, total_steps: int | None = None, width: int = 100) -> str:
    file = io.StringIO()
    Console(file=file, width=width).print(draw(now, total_steps))
    return file.getvalue()


class Terminal(io.StringIO):
    """A terminal that can go away."""

    gone = False

    def isatty(self) -> bool:
        return True

    def write(self, text: str) -> int:
        if self.gone:
            raise BrokenPipeError(32, "Broken pipe")
        return super().write(text)


@pytest.fixture
def terminal() -> Terminal:
    return Terminal()


def console_on(terminal: Terminal) -> Console:
    return Console(file=terminal, force_terminal=True, width=100, color_system=None)


def test_the_figures_are_of_the_last_ten_seconds() -> None:
    """Twenty steps of a second, the last ten of them twice as rich: only those count."""
    builder = LogBuilder(Path(), storage=Memory())
    for number in range(20):
        rich = number >= 10
        wait = [("data_wait", 0, 500 * MS if rich else 0)]
        builder.step(number, SECOND, wait, samples=8 if rich else 4, tokens=80 if rich else 40, epoch=3)
        builder.scalar(number, 2.0 - number / 20)
    builder.step(0, SECOND, flags=EVALUATION)
    now = recent_of_log(builder.log)
    assert (19, 3, pytest.approx(1), pytest.approx(8), pytest.approx(80), pytest.approx(0.5), pytest.approx(1.05)) == (
        now.step, now.epoch, now.steps_per_s, now.samples_per_s, now.tokens_per_s, now.wait_share, now.loss
    )  # fmt: skip


def test_what_is_not_known_is_not_shown() -> None:
    """No samples, no waits, no loss: nothing about them."""
    builder = LogBuilder(Path(), storage=Memory())
    builder.step(0, 10 * MS)
    now = recent_of_log(builder.log)
    assert Recent(0, None, pytest.approx(100)) == now
    shown = drawn(now)
    assert "step 0" in shown
    assert "100 steps/s" in shown
    assert not any(word in shown for word in ("samples", "loss", "wait", "epoch"))


def test_before_the_first_step_the_display_says_so() -> None:
    """An empty log has no figures."""
    assert Recent() == recent_of_log(LogBuilder(Path(), storage=Memory()).log)
    assert "waiting for the first step" in drawn(Recent())


def test_a_value_whose_name_ends_in_loss_stands_for_the_loss() -> None:
    """Unless there is one called loss."""
    builder = LogBuilder(Path(), storage=Memory())
    builder.scalar(0, 5.0, "train_loss")
    assert 5.0 == recent_of_log(builder.log).loss
    builder.scalar(0, 4.0, "loss")
    assert 4.0 == recent_of_log(builder.log).loss


def test_the_time_left_follows_from_the_pace() -> None:
    """Step 49 of 100 at 10 steps a second: 50 steps, 5 s."""
    assert 5.0 == time_left_s(Recent(49, steps_per_s=10.0), 100)
    assert time_left_s(Recent(49, steps_per_s=10.0), None) is None
    assert time_left_s(Recent(49), 100) is None
    assert 0 == time_left_s(Recent(200, steps_per_s=10.0), 100)
    assert "50 %" in drawn(Recent(49, steps_per_s=10.0), 100)


@pytest.mark.parametrize("width", [40, 80])
def test_the_display_is_two_lines_however_narrow(width: int) -> None:
    """It is cut at the edge, never broken."""
    now = Recent(1234567, 12, 1234.5, 98765.4, 9876543.2, 0.123, 1.2345)
    lines = drawn(now, 10_000_000, width).splitlines()
    assert 2 == len(lines)
    assert max(map(len, lines)) <= width


def test_as_a_callback_it_shows_steps_and_samples(terminal: Terminal) -> None:
    """Fed by hand, without a run: the plain callback (step, samples)."""
    bar = Progress(10, console=console_on(terminal))
    with bar:
        for step in range(10):
            bar(step, 32)
            time.sleep(0.06)
    shown = terminal.getvalue()
    assert "step 9 of 10" in shown
    assert "samples/s" in shown
    assert "100 %" in shown


def test_with_a_log_it_shows_the_log(terminal: Terminal) -> None:
    """The training thread is never asked."""
    builder = LogBuilder(Path(), storage=Memory())
    builder.step(41, 10 * MS, samples=5)
    with Progress(log=builder.log, console=console_on(terminal)):
        pass
    assert "step 41" in terminal.getvalue()
    assert "500 samples/s" in terminal.getvalue()


def test_without_a_terminal_there_is_no_output_and_no_thread() -> None:
    """A log file gets nothing."""
    file = io.StringIO()
    before = threading.active_count()
    with Progress(10, console=Console(file=file)) as bar:
        bar(1, 2)
        assert before == threading.active_count()
    assert "" == file.getvalue()


def test_a_terminal_that_goes_away_ends_the_display_alone(terminal: Terminal, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is raised, by the thread or by stop, and the streams are given back."""
    failures: list[Any] = []
    monkeypatch.setattr(threading, "excepthook", failures.append)
    stdout = sys.stdout
    bar = Progress(console=console_on(terminal)).start()
    terminal.gone = True
    bar(1, 1)
    time.sleep(0.6)
    bar.stop()
    bar.stop()
    assert [] == failures
    assert stdout is sys.stdout


def test_starting_twice_is_once(terminal: Terminal) -> None:
    """And it can be started again after its end."""
    before = threading.active_count()
    bar = Progress(console=console_on(terminal)).start().start()
    assert before + 1 == threading.active_count()
    bar.stop()
    assert before == threading.active_count()
    bar.start().stop()
    assert before == threading.active_count()


def test_the_cursor_stays_visible(terminal: Terminal) -> None:
    """A killed process could not bring it back."""
    bar = Progress(console=console_on(terminal)).start()
    shown = terminal.getvalue()
    bar.stop()
    assert shown.rfind("\x1b[?25h") > shown.rfind("\x1b[?25l")


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_a_forked_worker_prints_to_the_real_stream(terminal: Terminal, monkeypatch: pytest.MonkeyPatch) -> None:
    """A data worker's print takes no lock of the display, whose thread may hold it at the fork."""
    monkeypatch.setattr(sys, "stdout", terminal)
    bar = Progress(console=console_on(terminal)).start()
    assert sys.stdout is not terminal
    child = os.fork()
    if child == 0:
        os._exit(0 if sys.stdout is terminal else 1)
    _, status = os.waitpid(child, 0)
    bar.stop()
    assert 0 == status
    assert sys.stdout is terminal


def test_importing_it_imports_neither_rich_nor_numpy_nor_torch() -> None:
    """``import otel_train`` stays cheap."""
    loaded = "{name.split('.')[0] for name in sys.modules}"
    code = f"import sys, otel_train.live; print(sorted({{'rich', 'numpy', 'torch'}} & {loaded}))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "[]" == done.stdout.strip()
