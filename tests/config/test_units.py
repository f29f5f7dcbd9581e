"""Durations and sizes are read as people write them, and what is formatted reads back as itself."""

from datetime import timedelta

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from headrace.config import format_duration, format_size, parse_duration, parse_size

NOT_DURATIONS = [
    "", "soon", "5 minutes", "1y", "30S", "-1s", "ms", "1s\n2s", "1e999s", "٣s", "9" * 30,
    True, None, -1, float("nan"), float("inf"), 10**400, timedelta(seconds=-1), b"5s", [5],
]  # fmt: skip


@pytest.mark.parametrize(
    ("duration_s", "written"),
    [
        (0.25, "250ms"),
        (30.0, "30s"),
        (300.0, "5m"),
        (3600.0, "1h"),
        (2_592_000.0, "30d"),
        (1.5, "1.5s"),
        (0.5, " 500 ms "),
        (7.0, "7"),
        (0.25, 0.25),
        (12.0, 12),
        (90.0, timedelta(minutes=1.5)),
    ],
)
def test_a_duration_is_read_from_every_form(duration_s: float, written: object) -> None:
    """Numbers are seconds, text carries its unit, and a timedelta is taken as it is."""
    assert duration_s == parse_duration(written)


@pytest.mark.parametrize("written", NOT_DURATIONS)
def test_what_is_no_duration_is_refused(written: object) -> None:
    """Nothing is guessed: what is not a duration raises ValueError and says what can be written."""
    with pytest.raises(ValueError, match=r"is not a duration; write .* 250ms or 30s"):
        parse_duration(written)


@pytest.mark.parametrize(
    ("size_bytes", "written"),
    [
        (16 * 1024**2, "16MiB"),
        (1024**3, "1GiB"),
        (64_000, "64KB"),
        (64_000, "64kb"),
        (65_536, "64 kib"),
        (1_572_864, "1.5MiB"),
        (7, "7"),
        (7, "7B"),
        (0, 0),
        (2**70, 2**70),
        (123_456_789_012_345_678, "123456789012345678"),
    ],
)
def test_a_size_is_read_from_every_form(size_bytes: int, written: object) -> None:
    """Numbers are bytes; KB is a thousand and KiB is 1024, in upper or lower case."""
    assert size_bytes == parse_size(written)


@pytest.mark.parametrize("written", ["", "big", "16M", "16iB", "ib", "-1", "1e999", True, None, -1, 1.5, b"1KiB"])
def test_what_is_no_size_is_refused(written: object) -> None:
    """A unit that means two things, such as M, is refused rather than guessed."""
    with pytest.raises(ValueError, match=r"is not a size; write .* 16MiB"):
        parse_size(written)


@pytest.mark.parametrize(
    ("written", "duration_s"),
    [("0s", 0), ("250ms", 0.25), ("25s", 25.0), ("90m", 5400.0), ("30d", 2_592_000.0), ("0.0001s", 0.0001)],
)
def test_a_duration_is_written_in_its_largest_whole_unit(written: str, duration_s: float) -> None:
    """Formatting picks the largest unit that leaves a whole number."""
    assert written == format_duration(duration_s)


@pytest.mark.parametrize(
    ("written", "size_bytes"), [("0B", 0), ("16MiB", 16 * 1024**2), ("64KB", 64_000), ("1025B", 1025), ("1TiB", 2**40)]
)
def test_a_size_is_written_in_its_largest_whole_unit(written: str, size_bytes: int) -> None:
    """Formatting picks the largest unit that leaves a whole number, binary before decimal."""
    assert written == format_size(size_bytes)


@given(st.floats(min_value=0, max_value=1e15, allow_nan=False))
@example(0.0025029000778882364)
@example(0.00010000000000000002)
def test_every_duration_survives_being_written(duration_s: float) -> None:
    """Reading what was formatted gives the very same float."""
    assert duration_s == parse_duration(format_duration(duration_s))


@given(st.integers(min_value=0, max_value=10**18 - 1))
def test_every_size_survives_being_written(size_bytes: int) -> None:
    """Reading what was formatted gives the very same size."""
    assert size_bytes == parse_size(format_size(size_bytes))


@given(st.text(max_size=20))
def test_no_text_breaks_the_readers(written: str) -> None:
    """Any text is either read or refused with a ValueError that repeats it; nothing else is raised."""
    for parse in (parse_duration, parse_size):
        refusal = ""
        try:
            assert 0 <= parse(written)
        except ValueError as error:
            refusal = str(error)
        assert not refusal or refusal.startswith(repr(written))
