"""Watch lists: what a line asks for, and each mistake with its line; of a file with mistakes the other lines count."""

from datetime import date

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tickstock_assets.domain.watch_list import MOST_PROBLEMS, Wanted, read_watch_list, report


def test_a_line_is_a_symbol_and_what_else_it_says_in_this_order() -> None:
    found = read_watch_list("AAPL\nMSFT,XNYS\n\nBRK.B,,2020-01-31\nIBM,XNYS,2021-02-01,minute\n")
    assert found.problems == {}
    assert found.wanted == [
        Wanted(1, "AAPL", None, None, "1d"),
        Wanted(2, "MSFT", "XNYS", None, "1d"),
        Wanted(4, "BRK.B", None, date(2020, 1, 31), "1d"),
        Wanted(5, "IBM", "XNYS", date(2021, 2, 1), "1m"),
    ]


def test_a_header_names_the_columns_in_any_order_and_others_are_left_alone() -> None:
    found = read_watch_list("Name,Start,Symbol\nApple,2020-01-31,AAPL\n\n'Microsoft',,MSFT\n")
    assert found.problems == {}
    assert [(one.line, one.symbol, one.start) for one in found.wanted] == [
        (2, "AAPL", date(2020, 1, 31)),
        (4, "MSFT", None),
    ]


def test_the_same_symbol_may_be_wanted_by_day_and_by_minute() -> None:
    found = read_watch_list("AAPL\nAAPL,,,minute\n")
    assert [(one.symbol, one.timeframe) for one in found.wanted] == [("AAPL", "1d"), ("AAPL", "1m")]


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        ("A PL", "expected a symbol such as AAPL or BRK.B, found 'A PL'; correct it"),
        (",XNYS", "expected a symbol such as AAPL or BRK.B, found ''; correct it"),
        ("IBM,NOWHERE", "Exchange 'NOWHERE': expected an ISO 10383 code"),
        # What is written down of Tel Aviv contradicts itself.
        ("TEVA,XTAE", "Exchange 'XTAE': expected a calendar that exchange_calendars can make, found "),
        ("IBM,,31.1.2020", "IBM: expected a start such as 2020-01-31, found '31.1.2020'; correct it"),
        ("IBM,,2020-02-30", "IBM: expected a start such as 2020-01-31, found '2020-02-30'; correct it"),
        ("IBM,,,fortnight", "timeframe: expected one of 1m, 5m, 15m, 1h, 1d"),
        ("IBM,,,hour", "IBM: expected timeframe day or minute, found 'hour', which is rolled up from minutes"),
        ("AAPL,,2020-01-01", "AAPL 1d stands on line 1 already; remove one"),
        ('"' + "x" * 200_000, "expected a symbol such as AAPL or BRK.B, found '\"xxxx"),
    ],
)
def test_a_mistake_is_told_with_its_line_and_the_others_count(line: str, complaint: str) -> None:
    found = read_watch_list(f"AAPL\n{line}\nMSFT\n")
    assert [one.symbol for one in found.wanted] == ["AAPL", "MSFT"]
    (told,) = report(found.problems)
    assert told.startswith(f"line 2: {complaint}")


@pytest.mark.parametrize("text", ["", "\n\n", " , ,\n"])
def test_an_empty_file_is_a_mistake(text: str) -> None:
    assert report(read_watch_list(text).problems) == ["line 1: expected a symbol a line, found an empty file; fill it"]


def test_a_file_that_is_no_list_is_read_no_further_than_a_hundred_mistakes() -> None:
    found = read_watch_list("no symbol here\n" * 500)
    assert len(found.problems) == MOST_PROBLEMS == 100
    assert report(found.problems)[-1].endswith("the lines after it are not read, as 100 have mistakes")


@given(st.text(max_size=300))
def test_any_text_is_read_and_each_line_counts_at_most_once(text: str) -> None:
    found = read_watch_list(text)
    lines = [one.line for one in found.wanted]
    assert len(lines) == len(set(lines))
    assert not set(lines) & found.problems.keys()
