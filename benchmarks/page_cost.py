"""The report as a page, for runs of three lengths: its size, the time to make it, the time to open it in Chromium.

python benchmarks/page_cost.py [--steps 100 100000 1000000]
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

import browser
from report_cost import record, sample

from otel_train.runlog.layout import rank_folder

GOAL_MB, GOAL_OPEN_S = 3.0, 1.0
ROUNDS = 5
STEPS_A_SAMPLE, MOST_SAMPLES = 50, 10_000
"""Of resources, with eight GPUs."""

LOADED = "(performance.timing.loadEventEnd - performance.timing.navigationStart) / 1000"
READABLE = "performance.getEntriesByName('first-contentful-paint')[0].startTime / 1000"
DRAWN = """new Promise(done => {
  const watch = setInterval(() => {
    if (!Bokeh.documents.length || !Bokeh.documents[0].is_idle) return;
    clearInterval(watch);
    done(performance.now() / 1000);
  }, 10);
})"""


def make(run: Path, page: Path) -> tuple[float, float]:
    """The least time of three, s, and the most memory, MB, of a process that makes the page."""
    command = [sys.executable, "-m", "otel_train.cli", "report", str(run), "--html", str(page)]
    times, most_mb = [], 0.0
    for _ in range(3):
        start = time.perf_counter()
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        _, code, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(code)
        if process.returncode:
            raise SystemExit(f"{' '.join(command)} ended with {process.returncode}")
        times.append(time.perf_counter() - start)
        most_mb = max(most_mb, used.ru_maxrss * 1024 / 1e6)
    return min(times), most_mb


def open_once(page: Path) -> tuple[float, float, float]:
    """In a browser just started, s since its navigation: text is readable, the page is loaded, all is drawn."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        opened = browser.Page(Path(folder))
        opened.open(page)
        drawn = opened.evaluate(DRAWN)
        readable, loaded = opened.evaluate(READABLE), opened.evaluate(LOADED)
        opened.close()
    return readable, loaded, drawn


def main() -> None:
    """A line for each length."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, nargs="+", default=[100, 100_000, 1_000_000])
    for steps in parser.parse_args().steps:
        with tempfile.TemporaryDirectory() as folder:
            page, run = Path(folder) / "page.html", record(steps, Path(folder))
            rows = min(steps // STEPS_A_SAMPLE, MOST_SAMPLES)
            columns = sample(run / rank_folder(0), rows)
            made_s, most_mb = make(run, page)
            print(f"{steps:,} steps, {rows:,} samples of {columns} columns: "
                  f"{page.stat().st_size / 1e6:.2f} MB (goal: at most {GOAL_MB:g}), "
                  f"made in {made_s:.1f} s with {most_mb:.0f} MB")  # fmt: skip
            if browser.find() is None:
                print("  not opened: there is no Chromium")
                continue
            opened = list(zip(*(open_once(page) for _ in range(ROUNDS)), strict=True))
        names = ("text readable", f"loaded (goal: {GOAL_OPEN_S:g} s)", "all figures drawn")
        for name, times in zip(names, opened, strict=True):
            print(f"  {name}: {min(times):.2f} s least, {statistics.median(times):.2f} s median of {ROUNDS}")


if __name__ == "__main__":
    main()
