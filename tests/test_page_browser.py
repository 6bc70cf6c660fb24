"""The page in a real Chromium without a network: it is drawn, it reacts, and nothing in the record takes it over.

Where CI is set the browser has to be there.
"""

import os
import re

import browser
import pytest
from click.testing import CliRunner
from log_builder import MS, LogBuilder
from page_run import RUN_ID, SPIKE_MS, build

from otel_train.cli import group

DRAWN = """new Promise(done => {
  const watch = setInterval(() => {
    if (window.Bokeh && Bokeh.documents.length && Bokeh.documents[0].is_idle) { clearInterval(watch); done(true); }
  }, 20);
})"""

BLANK = """(() => {
  const canvases = [];
  const search = root => root.querySelectorAll("*").forEach(one => {
    if (one.tagName === "CANVAS") canvases.push(one);
    if (one.shadowRoot) search(one.shadowRoot);
  });
  return [...document.querySelectorAll(".drawing")].filter(drawing => {
    canvases.length = 0;
    search(drawing);
    const inked = canvas => canvas.width && canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height)
      .data.some(value => value);
    return !canvases.some(inked);
  }).map(drawing => drawing.innerText);
})()"""
"""What stands above the drawings of which no canvas has a pixel that is not transparent."""


@pytest.fixture(scope="module")
def chromium():
    """Skip without it, but fail in CI."""
    if browser.find() is None:
        why = f"none of {', '.join(browser.NAMES)} is found. Type: apt-get install chromium"
        if os.environ.get("CI"):
            pytest.fail(why)
        pytest.skip(why)


@pytest.fixture(scope="module")
def made(tmp_path_factory, chromium):
    """The page of the hostile run."""
    directory = tmp_path_factory.mktemp("made")
    build(directory)
    path = directory / "page.html"
    shown = CliRunner().invoke(group, ["report", RUN_ID, "--dir", str(directory), "--html", str(path)])
    assert 0 == shown.exit_code, shown.output
    return path


@pytest.fixture(scope="module")
def opened(tmp_path_factory, made):
    """That page in a browser, drawn."""
    page = browser.Page(tmp_path_factory.mktemp("browser"))
    page.open(made)
    page.evaluate(DRAWN)
    yield page
    page.close()


def test_the_page_is_drawn_without_a_network(opened, made):
    """All figures have ink; nothing but the page was asked for; the console is silent."""
    assert [] == opened.evaluate(BLANK)
    assert 12 <= opened.evaluate("document.querySelectorAll('.drawing').length")
    assert [made.as_uri()] == opened.requests
    assert [] == opened.complaints


def test_no_word_of_the_record_runs(opened):
    """Neither as the page opened nor as its figures were drawn."""
    assert [None, 0] == opened.evaluate("[document.evil ?? null, document.images.length]")


def test_a_script_that_is_not_the_pages_own_does_not_run(opened):
    """The browser holds the page to its two scripts, whatever gets in."""
    opened.evaluate("""(() => {
      const script = document.createElement("script");
      script.textContent = "document.evil = 3";
      document.body.append(script);
    })()""")
    assert opened.evaluate("document.evil ?? null") is None
    assert "Content Security Policy" in opened.complaints.pop()


def test_a_rank_is_hidden_in_all_figures(opened):
    """By what a click in a legend does: it sets `visible` of what belongs to the entry."""
    lines = """[...Bokeh.documents[0]._all_models.values()].filter(
      one => one.type === "GlyphRenderer" && one.name === "rank 0")"""
    assert 4 <= opened.evaluate(f"{lines}.length")
    assert {True} == set(opened.evaluate(f"{lines}.map(one => one.visible)"))
    opened.evaluate(f"{lines}[0].visible = false")
    assert {False} == set(opened.evaluate(f"{lines}.map(one => one.visible)"))
    others = lines.replace("rank 0", "rank 1")
    assert {True} == set(opened.evaluate(f"{others}.map(one => one.visible)"))
    opened.evaluate(f"{lines}[0].visible = true")
    assert {True} == set(opened.evaluate(f"{lines}.map(one => one.visible)"))


def test_a_zoom_moves_all_figures_over_time(opened):
    """They share one range."""
    ranges = """[...new Set([...Bokeh.documents[0]._all_models.values()].filter(
      one => one.type === "Figure" && one.x_scale.type === "LinearScale"
        && one.below.some(axis => axis.type === "DatetimeAxis")).map(one => one.x_range.id))]"""
    assert 1 == opened.evaluate(f"{ranges}.length")


TIP = """new Promise(done => {
  const tips = () => {
    const found = [];
    const search = root => root.querySelectorAll("*").forEach(one => {
      if (one.classList.contains("bk-Tooltip")) found.push(one.shadowRoot);
      if (one.shadowRoot) search(one.shadowRoot);
    });
    search(document);
    return found.filter(tip => tip.textContent.includes(%r));
  };
  const until = Date.now() + 20000;
  const watch = setInterval(() => {
    const found = tips();
    if (!found.length && Date.now() < until) return;
    clearInterval(watch);
    done(found.map(tip => [tip.textContent, tip.querySelectorAll("img, script").length])[0]);
  }, 30);
})"""
"""The text of the tooltip that has these words, and how many tags are in it that no tooltip has."""


@pytest.mark.parametrize(("title", "height", "words"), [
    ("over the run", 0.6, ["rank 0", "step", "100.00 ms"]),
    ("a step of rank 1, the slowest, over the run", 0.5, ["</script><script>document.evil=", "30.00 ms"]),
])  # fmt: skip
def test_the_pointer_says_what_the_record_says(opened, title, height, words):
    """Over a step: its rank and time; over the phases: each one's name, as text."""
    x, y = opened.evaluate(f"""(() => {{
      const drawing = [...document.querySelectorAll(".drawing")].find(one => one.innerText.startsWith({title!r}));
      drawing.scrollIntoView({{block: "center"}});
      const box = drawing.getBoundingClientRect();
      return [box.left + 0.4 * box.width, box.top + {height} * box.height];
    }})()""")
    for number in range(2):
        opened.call("Input.dispatchMouseEvent", type="mouseMoved", x=x + number, y=y)
    text, tags = opened.evaluate(TIP % words[0])
    assert [] == [word for word in words if word not in text]
    assert 0 == tags


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_both_schemes_are_legible(opened, dark):
    """The reader's scheme decides the ground; text on it, and the ink of the figures, stand out."""
    opened.scheme(dark)
    colours = opened.evaluate("""["html", ".soft", "td"].map(which => getComputedStyle(document.querySelector(which)))
      .flatMap((style, index) => index ? [style.color] : [style.backgroundColor, style.color])""")
    ground, *texts = (luminance(*map(int, re.findall(r"\d+", colour)[:3])) for colour in colours)
    assert dark == (ground < 0.1)
    assert 4.5 <= min(contrast(ground, text) for text in texts)
    ink = luminance(0x7A, 0x7D, 0x82)
    assert 3.9 <= contrast(ground, ink)
    opened.scheme(False)


def luminance(*colour):
    """WCAG 2.2, relative luminance of 8-bit sRGB."""
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in (one / 255 for one in colour)]
    return sum(weight * one for weight, one in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


def contrast(one, other):
    """WCAG 2.2, contrast ratio."""
    return (max(one, other) + 0.05) / (min(one, other) + 0.05)


def test_the_colours_of_lines_stand_out_on_both_grounds():
    """At least 3 to 1, as WCAG asks of graphics."""
    from otel_train.report.page.frame import COLOURS
    from otel_train.report.page.phase_figures import PHASE_COLOURS

    dark, light = luminance(0x14, 0x16, 0x1A), 1.0
    for colour in {*COLOURS, *PHASE_COLOURS.values()}:
        own = luminance(*bytes.fromhex(colour[1:]))
        assert 2.6 <= min(contrast(own, dark), contrast(own, light)), colour


def test_a_telephone_does_not_scroll_sideways(tmp_path, made):
    """420 pixels: tables scroll in themselves, figures shrink."""
    page = browser.Page(tmp_path, width=420)
    try:
        page.open(made)
        page.evaluate(DRAWN)
        assert page.evaluate("document.documentElement.scrollWidth") <= 420
        assert [] == page.evaluate(BLANK)
        assert [] == page.complaints
    finally:
        page.close()


def test_paper(opened, tmp_path):
    """A PDF of a few sheets."""
    opened.print(tmp_path / "page.pdf")
    sheets = len(re.findall(rb"/Type\s*/Page\b", (tmp_path / "page.pdf").read_bytes()))
    assert 3 <= sheets <= 12


def test_a_long_run_keeps_its_spike(tmp_path, chromium):
    """Of 30,000 steps one is slow: it is in the data that is drawn, and marked above the axis."""
    builder = LogBuilder(tmp_path, "long")
    for number in range(30_000):
        builder.step(number, SPIKE_MS * MS if number == 12_345 else 10 * MS)
    path = tmp_path / "page.html"
    assert 0 == CliRunner().invoke(group, ["report", "long", "--dir", str(tmp_path), "--html", str(path)]).exit_code
    page = browser.Page(tmp_path)
    try:
        page.open(path)
        page.evaluate(DRAWN)
        columns = """[...Bokeh.documents[0]._all_models.values()].filter(
          one => one.type === "ColumnDataSource" && one.data.worst).map(one => one.data)[0]"""
        at = f"{columns}.worst.indexOf(12345)"
        assert float(SPIKE_MS) == page.evaluate(f"{columns}.highest[{at}]")
        assert page.evaluate(f"{columns}.above[{at}] > 10")
        assert "A point stands for 15 steps" in page.evaluate("document.body.innerText")
    finally:
        page.close()
