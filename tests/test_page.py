"""The page and the Markdown: what they hold, what they do not, and who reads them safely."""

import re
import sys
from html.parser import HTMLParser
from itertools import pairwise

import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st
from log_builder import MS, SECOND, LogBuilder
from page_run import EVIL, RUN_ID, SECRET, build

from otel_train import names
from otel_train import resource_names as rn
from otel_train.cli import group
from otel_train.derive.history import (
    ALL_POINTS,
    FEWEST_POINTS,
    MOST_MARKS,
    history,
    points_a_rank,
    thinned,
    thinner,
)
from otel_train.derive.secrets import without_secrets
from otel_train.derive.stretches import MOST_POINTS, stretches
from otel_train.report.markdown import escaped
from otel_train.resource_names import series
from otel_train.runlog.layout import EVALUATION

LARGEST_BYTES = 3_000_000
PIPE = r"(?<!\\)\|"
"""One that Markdown takes for the border of a cell."""


def report(directory, *arguments, run=RUN_ID):
    return CliRunner().invoke(group, ["report", run, "--dir", str(directory), *arguments])


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    """The page of the hostile run."""
    directory = tmp_path_factory.mktemp("hostile")
    build(directory)
    shown = report(directory, "--html", str(directory / "page.html"))
    assert 0 == shown.exit_code, shown.output
    return (directory / "page.html").read_text(encoding="utf-8")


class Tags(HTMLParser):
    """The tags of a page with their attributes, and the text outside scripts."""

    def __init__(self, page):
        super().__init__()
        self.tags, self.text, self._raw = [], "", False
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        self._raw = tag in ("script", "style")

    def handle_endtag(self, tag):
        self._raw = False

    def handle_data(self, data):
        self.text += "" if self._raw else data


def test_a_page_has_its_parts_in_the_order_of_need(page):
    """From what failed and what bounds the run to the machine that it ran on."""
    before = Tags(page[: page.index("<h2>")]).text
    places = [before.index(part) for part in ("2 steps failed", "spent waiting for data", "samples a second")]
    assert sorted(places) == places
    assert [
        "Step time", "Throughput", "Phases", "Waiting for data", "Logged values", "GPU, CPU, memory, disk, network",
        "Ranks side by side", "Alerts and errors", "Events", "With what", "This record",
    ] == re.findall("<h2>(.*?)</h2>", page)  # fmt: skip


def test_a_page_asks_no_network(page):
    """No tag refers to another file, and the browser is told to refuse the rest."""
    tags = Tags(page).tags
    assert [] == [(tag, found) for tag, found in tags if {"src", "href", "action", "data"} & set(found)]
    policy = next(found["content"] for tag, found in tags if found.get("http-equiv") == "Content-Security-Policy")
    assert policy.startswith("default-src 'none'; script-src 'sha256-")
    assert "http" not in policy
    assert len(page.encode()) < LARGEST_BYTES


def test_what_the_record_says_is_text_on_the_page(page):
    """Names, messages and paths start no script and no image: there are the page's own two scripts."""
    tags = Tags(page)
    assert (2, 0) == (sum(tag == "script" for tag, _ in tags.tags), sum(tag == "img" for tag, _ in tags.tags))
    assert EVIL in tags.text
    assert "<script>document.evil" not in page


def test_no_secret_is_shown(tmp_path):
    """Of the command line and the settings those that sound like one; the rest of both is there."""
    build(tmp_path, ranks=1, steps=30)
    assert 0 == report(tmp_path, "--html", str(tmp_path / "page.html")).exit_code
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert SECRET not in page + report(tmp_path, "--markdown").output
    assert "--api-token (hidden)" in page
    assert "http://(hidden)@collector:4318" in page


@pytest.mark.parametrize(("command", "shown"), [
    ("train --lr 1e-3 --tokenizer gpt2", "train --lr 1e-3 --tokenizer (hidden)"),
    ("train --hf_token=abc x", "train --hf_token=(hidden) x"),
    ("train --use-auth --steps 3", "train --use-auth --steps 3"),
    ("WANDB_API_KEY=abc train", "WANDB_API_KEY=(hidden) train"),
])  # fmt: skip
def test_secrets_of_a_command_line(command, shown):
    """What may be one is hidden, rather once too often."""
    assert shown == " ".join(without_secrets(command.split()))


def test_a_run_without_anything(tmp_path):
    """It died as it started: both documents say so, and draw nothing."""
    LogBuilder(tmp_path, "empty")
    shown = report(tmp_path, "--html", str(tmp_path / "page.html"), "--markdown", run="empty")
    assert 0 == shown.exit_code, shown.output
    assert "No training step is recorded." in shown.output
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert "unknown" in Tags(page).text
    assert "<script>" not in page


def test_one_step(tmp_path):
    """Is drawn, with all that can be said of it."""
    LogBuilder(tmp_path, "one").step(0, SECOND)
    shown = report(tmp_path, "--html", str(tmp_path / "page.html"), run="one")
    assert 0 == shown.exit_code, shown.output
    assert "Step time" in (tmp_path / "page.html").read_text(encoding="utf-8")


def test_a_page_of_many_ranks(tmp_path):
    """Sixteen have a colour, the others share one; the page does not grow with them."""
    for rank in range(40):
        builder = LogBuilder(tmp_path, "wide", rank, world_size=40)
        for number in range(50):
            builder.step(number, (10 + rank) * MS, [("forward", 0, MS)])
    shown = report(tmp_path, "--html", str(tmp_path / "page.html"), run="wide")
    assert 0 == shown.exit_code, shown.output
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert "24 more ranks, slowest steps" in page
    assert len(page.encode()) < LARGEST_BYTES


def test_without_bokeh(tmp_path, monkeypatch):
    """What to type, in one line; no file is left."""
    LogBuilder(tmp_path, "run").step(0, SECOND)
    monkeypatch.setitem(sys.modules, "bokeh", None)
    shown = report(tmp_path, "--html", str(tmp_path / "page.html"), run="run")
    assert (1, True) == (shown.exit_code, "pip install 'otel-train[html]'" in shown.output)
    assert not (tmp_path / "page.html").exists()


def test_markdown_is_short_and_harmless(tmp_path):
    """A table of figures, what is urgent, folded details; nobody is called, nothing is marked up."""
    build(tmp_path, ranks=2)
    shown = report(tmp_path, "--markdown")
    assert 0 == shown.exit_code, shown.output
    lines = shown.output.splitlines()
    assert shown.output.startswith("### ")
    assert "hostile: finished" in lines[0]
    assert "| samples a second | tokens a second |" in shown.output
    assert "> [!WARNING]" in lines
    own = re.sub(r"</?(details|summary|sub)>|<br>", "", shown.output)
    assert not re.search(r"<|(?<!\\)`|@\w|#\d", own)
    for before, line in pairwise(lines):
        if before.startswith("|") and line.startswith("|"):
            assert len(re.findall(PIPE, before)) == len(re.findall(PIPE, line)), line


def test_projections_are_in_both_documents(tmp_path):
    """As the terminal has them: the time left by each count, and which to trust."""
    build(tmp_path, ranks=1, steps=200, evil="plain")
    shown = report(tmp_path, "--html", str(tmp_path / "page.html"), "--markdown", "--goal", "1M samples")
    assert 0 == shown.exit_code, shown.output
    assert "**To 1,000,000 samples**" in shown.output
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert "<h2>Projections</h2>" in page
    for document in (shown.output, page):
        assert ["by samples", "by tokens", "by steps"] == re.findall(
            "by (?:samples|tokens|steps)(?= \\(| \\||<)", document
        )


@pytest.mark.parametrize(("text", "shown"), [
    ("a_b*c", r"a\_b\*c"), ("1. first", r"1\. first"), ("- item", r"\- item"), ("a|b", r"a\|b"),
    ("<b>", "&lt;b&gt;"), ("two\nlines", "two lines"), ("@me", "@\u200bme"), ("1.5 ms", "1.5 ms"), ("-3 %", "-3 %"),
])  # fmt: skip
def test_markdown_escapes(text, shown):
    """What Markdown would take for its own, and nothing else."""
    assert shown == escaped(text)


def test_json_and_markdown_are_one_output(tmp_path):
    """Both at once are refused."""
    LogBuilder(tmp_path, "run").step(0, SECOND)
    shown = report(tmp_path, "--json", "--markdown", run="run")
    assert (2, True) == (shown.exit_code, "one of them on standard output" in shown.output)


@settings(max_examples=25, deadline=None)
@given(durations=st.lists(st.integers(1000, 10**10), min_size=1, max_size=60), most=st.integers(1, 70))
def test_points_lose_no_spike(tmp_path_factory, durations, most):
    """Whatever the number of points: the extremes, medians and phases are numpy's of the same steps, all are there."""
    builder = LogBuilder(tmp_path_factory.mktemp("points"))
    for number, duration in enumerate(durations):
        builder.step(number * 3, duration, [("data_wait", 0, duration // 2), ("forward", 0, duration // 4)])
    found = stretches(builder.log, most)
    seconds = np.array(durations) / 1e9
    parts = [seconds[at : at + found.steps_each] for at in range(0, len(seconds), found.steps_each)]
    assert len(parts) == len(found.unix_s) <= most
    assert pytest.approx([part.max() for part in parts]) == found.highest_s
    assert pytest.approx([part.min() for part in parts]) == found.lowest_s
    assert pytest.approx([np.median(part) for part in parts]) == found.median_s
    assert seconds.max() == seconds[found.highest_step // 3].max()
    assert [0, len(durations) * 3 - 3] == [found.first_step[0], found.last_step[-1]]
    assert pytest.approx([part.mean() / 4 for part in parts], rel=1e-5, abs=1e-9) == found.phases_s["forward"]


def test_evaluation_steps_are_no_points(tmp_path):
    """Neither their time nor their number; the wait of the others is known."""
    builder = LogBuilder(tmp_path)
    builder.step(0, SECOND, [("data_wait", 0, SECOND // 4)], samples=8)
    builder.step(1, 9 * SECOND, flags=EVALUATION)
    builder.step(2, SECOND, [("data_wait", 0, SECOND // 2)], samples=8)
    found = stretches(builder.log)
    assert ([0, 2], [1.0, 1.0]) == (found.first_step.tolist(), found.median_s.tolist())
    assert pytest.approx([0.25, 0.5]) == found.wait_share
    assert ("samples", pytest.approx([0.8, 8.0])) == (found.rates.unit, found.rates.rate)


@given(values=st.lists(st.floats(-1e9, 1e9), min_size=1, max_size=200), most=st.integers(1, 50))
def test_a_thinned_series_keeps_its_extremes(values, most):
    """In the points' bands; no more points than asked for."""
    given_values = np.array(values)
    found = thinned(np.arange(len(values), dtype=float), given_values, most)
    assert len(found.mean) <= most
    assert (given_values.min(), given_values.max()) == (found.lowest.min(), found.highest.max())


def test_marks_are_bounded_and_counted(tmp_path):
    """The longest are kept."""
    builder = LogBuilder(tmp_path)
    for number in range(MOST_MARKS + 7):
        builder.event("checkpoint", number * SECOND, number * MS)
    found = history(builder.log, ())
    assert (MOST_MARKS, 7) == (len(found.marks), found.marks_left_out)
    assert pytest.approx(7e-3, abs=1e-6) == min(mark.end_unix_s - mark.start_unix_s for mark in found.marks)


@pytest.mark.parametrize("ranks", [1, 2, 64, 1000])
def test_points_of_all_ranks_are_bounded(ranks):
    """So the page is, too; each rank has a line all the same."""
    each = points_a_rank(ranks)
    assert FEWEST_POINTS <= each <= MOST_POINTS
    assert ranks * each <= max(ALL_POINTS, ranks * FEWEST_POINTS)


@given(values=st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=300), most=st.integers(1, 40))
def test_a_series_that_is_thinned_twice(values, most):
    """Is as one that was thinned at once, but for the weight of its last points: no extreme is lost."""
    given_values, times = np.array(values), np.arange(len(values), dtype=float)
    found = thinner(thinned(times, given_values, 100), most)
    assert len(found.mean) <= most
    assert (given_values.min(), given_values.max()) == (found.lowest.min(), found.highest.max())
    whole = len(values) // found.each
    means = given_values[: whole * found.each].reshape(whole, found.each).mean(axis=1)
    assert pytest.approx(means, abs=1e-6) == found.mean[:whole]


def test_the_largest_page_is_small(tmp_path):
    """Many steps, ranks, phases, logged values, series and events: what is left out is said, and it fits."""
    for rank in range(2):
        builder = LogBuilder(tmp_path, "large", rank, world_size=2)
        for number in range(6100):
            builder.step(number, (10 + number % 7) * MS, [(f"phase {number % 40}", 0, 9 * MS), ("data_wait", 0, MS)])
            if number % 20 == 0:
                for name in range(14):
                    builder.scalar(number, number * name, f"scalar {name}")
        for sample in range(600):
            row = {series(rn.GPU_UTILIZATION, hw__id=f"GPU-{gpu}", hw__type="gpu"): 0.5 for gpu in range(12)}
            row |= {series(rn.CPU_UTILIZATION, cpu__mode=mode): 0.1 for mode in ("user", "nice", "system", "iowait")}
            builder.resources(sample * 90 * MS, row)
        for number in range(500):
            builder.event("timed", number * MS, MS, attributes={names.TIMED_NAME: f"function {number}"})
            builder.event(names.ERROR, number * MS, error={"type": f"Error{number}", "message": "m" * 1000})
    shown = report(tmp_path, "--html", str(tmp_path / "page.html"), run="large")
    assert 0 == shown.exit_code, shown.output
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert len(page.encode()) < LARGEST_BYTES
    text = Tags(page).text
    said = (
        "A point stands for 4 steps", "30 shorter phases", "more rows are in --json", "more events are not marked",
        "GPU, %: 8 more lines are not drawn", "2 more logged values are not drawn",
    )  # fmt: skip
    assert [] == [one for one in said if one not in text + page]
