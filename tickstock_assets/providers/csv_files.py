"""CSV files that people make by hand: read as text, and a mistake is one sentence with the line and what was meant."""

import csv
import difflib
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.csv

from tickstock_assets.domain.errors import PermanentProviderError


def read_csv(path: Path, needed: Sequence[str], more: Sequence[str] | None = None) -> pa.Table:
    """Return a CSV file as text, every column as the file names it.

    Args:
        path: the file, in UTF-8, its first line the header.
        needed: columns that must be there, in any order; capitals and spaces around a name do not count.
        more: columns that may be there, and no others may; None when any may.

    Raises:
        PermanentProviderError: it is empty, a column is missing, misspelt, repeated or unknown, or a row has more or
            fewer fields than the header.
    """
    header = _header(path)
    _expect_columns(path, header, needed, more)
    bad_rows: list[pa.csv.InvalidRow] = []

    def keep(row: pa.csv.InvalidRow) -> str:
        bad_rows.append(row)
        return "skip"

    try:
        table = pa.csv.read_csv(
            path,
            # Rows are numbered in a single thread only.
            read_options=pa.csv.ReadOptions(use_threads=False),
            parse_options=pa.csv.ParseOptions(invalid_row_handler=keep),
            convert_options=pa.csv.ConvertOptions(
                column_types=dict.fromkeys(header, pa.string()), strings_can_be_null=False
            ),
        )
    except pa.ArrowInvalid as error:
        raise PermanentProviderError(f"{path}: expected a CSV file, found: {str(error).splitlines()[0]}") from None
    if bad_rows:
        bad = bad_rows[0]
        raise PermanentProviderError(
            f"{path} line {bad.number}: expected {bad.expected_columns} fields as in the header, "
            f"found {bad.actual_columns} ({bad.text[:80]!r})"
        )
    if not table.num_rows:
        raise PermanentProviderError(f"{path}: expected rows below the header, found none")
    return table


def _header(path: Path) -> list[str]:
    try:
        with path.open(encoding="utf-8-sig", newline="") as lines:
            header = next(csv.reader(lines), [])
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise PermanentProviderError(
            f"{path}: expected a CSV file in UTF-8, found one that cannot be read ({error})"
        ) from None
    if not header:
        raise PermanentProviderError(f"{path}: expected a header and rows, found an empty file")
    return header


def _expect_columns(path: Path, header: Sequence[str], needed: Sequence[str], more: Sequence[str] | None) -> None:
    found = [name.strip().lower() for name in header]
    if repeated := [name for name in found if found.count(name) > 1]:
        raise PermanentProviderError(f"{path} line 1: expected each column once, found {repeated[0]!r} twice")
    known = [*needed, *(more or [])]
    for name in [name for name in needed if name not in found]:
        spare = [other for other in found if other not in known]
        near = difflib.get_close_matches(name, spare, 1)
        what = f"{near[0]!r}; rename it" if near else f"only {','.join(header)}"
        raise PermanentProviderError(f"{path} line 1: expected a column {name!r}, found {what}")
    for name in [name for name in found if more is not None and name not in known]:
        near = difflib.get_close_matches(name, [other for other in known if other not in found], 1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise PermanentProviderError(f"{path} line 1: expected the columns {','.join(known)}, found {name!r}{hint}")
