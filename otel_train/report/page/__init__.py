"""The report as one HTML file: what is drawn, the text around it, and the file that needs no network.

The only room that imports Bokeh and Jinja2.
"""

from collections.abc import Sequence
from pathlib import Path

from otel_train.derive.projection import Projection
from otel_train.derive.summary import RunSummary
from otel_train.errors import OtelTrainError
from otel_train.runlog.runs import Run


def write_page(run: Run, summary: RunSummary, path: Path, projections: Sequence[Projection] = ()) -> None:
    """Write the page. Raises ``OtelTrainError`` without the extra ``html``, ``OSError``."""
    try:
        import bokeh  # noqa: F401  here, not where it is used: it says what to type
        import jinja2  # noqa: F401
    except ImportError as error:
        raise OtelTrainError(f"a page needs Bokeh ({error}). Type: pip install 'otel-train[html]'") from error
    from otel_train.report.page.document import page

    path.write_text(page(run, summary, projections), encoding="utf-8")
