"""Numbers as a person reads them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from otel_train.report import text


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (None, "-"), (0, "0 s"), (8.5e-8, "85.0 ns"), (850e-6, "850 µs"), (0.0123, "12.3 ms"), (0.9999, "1.00 s"),
        (59.94, "59.9 s"), (60, "1 min 00 s"), (200, "3 min 20 s"), (3720, "1 h 02 min"), (187200, "2 d 4 h"),
    ],
)  # fmt: skip
def test_times_have_three_digits_and_a_fitting_unit(value: float | None, expected: str) -> None:
    """From nanoseconds to days; missing is a hyphen."""
    assert expected == text.seconds(value)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (None, "-"),
        (0, "0"),
        (7, "7"),
        (0.25, "0.25"),
        (412.3, "412"),
        (7836.4, "7,836"),
        (13210, "13.2 k"),
        (3.41e6, "3.41 M"),
    ],
)
def test_counts_are_short(value: float | None, expected: str) -> None:
    """Up to 9,994 in full, then with a unit."""
    assert expected == text.amount(value)


@pytest.mark.parametrize(
    ("value", "expected"), [(None, "-"), (999, "999 B"), (1536, "1.50 KiB"), (1 << 40, "1.00 TiB")]
)
def test_bytes_are_in_binary_units(value: float | None, expected: str) -> None:
    """As memory is sold and measured."""
    assert expected == text.size(value)


@pytest.mark.parametrize(
    ("value", "expected"), [(3, "3 s"), (99.6, "2 min"), (4000, "67 min"), (9000, "2.5 h"), (5e5, "5.8 d")]
)
def test_a_rough_time_has_one_unit(value: float, expected: str) -> None:
    """For narrow tables."""
    assert expected == text.about(value)


def test_a_sparkline_has_gaps_where_nothing_is_known() -> None:
    """The lowest value is the lowest bar; not-a-number is a gap; equal values are a flat line."""
    assert "▁ █" == text.sparkline([1.0, None, 2.0], 10)
    assert "▁ █" == text.sparkline([1.0, float("nan"), 2.0], 10)
    assert "▁▁" == text.sparkline([3.0, 3.0], 10)
    assert "██" == text.sparkline([3.0, 3.0], 10, from_zero=True)
    assert "" == text.sparkline([None], 10)
    assert "" == text.sparkline([], 10)


@given(st.lists(st.none() | st.floats(-1e9, 1e9)), st.integers(1, 50))
def test_a_sparkline_fits_its_width(values: list[float | None], width: int) -> None:
    """Whatever the values."""
    assert len(text.sparkline(values, width)) <= min(width, len(values))


@given(st.floats(-1, 3), st.integers(0, 60))
def test_a_bar_fits_its_width(share: float, width: int) -> None:
    """A share beyond 1, of nested clocks say, does not break the table."""
    assert len(text.bar(share, width)) <= width


def test_bars_are_drawn_to_an_eighth() -> None:
    """Half of three characters is one and a half."""
    assert "█▌" == text.bar(0.5, 3)
