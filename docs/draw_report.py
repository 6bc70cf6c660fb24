"""Draws docs/report.svg, the README's picture, from a recorded run: ``python docs/draw_report.py RUN``."""

import os
import sys
from pathlib import Path

from rich.console import Console
from rich.terminal_theme import MONOKAI

from otel_train.cli.options import runs_directory
from otel_train.derive.summary import summarize_run
from otel_train.report.terminal import print_report
from otel_train.runlog.runs import find_run

run = find_run(runs_directory(None), sys.argv[1] if len(sys.argv) > 1 else None)
with open(os.devnull, "w", encoding="utf-8") as nowhere:
    console = Console(record=True, width=88, force_terminal=True, color_system="truecolor", file=nowhere)
    print_report(summarize_run(run), console, brief=True)
picture = console.export_svg(title="otel-train report", theme=MONOKAI)
Path(__file__).with_name("report.svg").write_text(picture + "\n")
