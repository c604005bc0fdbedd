"""Flat files from a local folder and from an S3-compatible service over real HTTP."""

import gzip
import hashlib
import logging
import os
import traceback
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

import pandas as pd
import pytest

from tests.providers.scripted_server import Asked, Reply, ScriptedServer, serving
from tickstock_assets.domain.errors import (
    BadKeyError,
    ConfigError,
    NotEntitledError,
    PermanentProviderError,
    TransientProviderError,
)
from tickstock_assets.domain.windows import Window
from tickstock_assets.providers.base import Dataset, Request
from tickstock_assets.providers.flat_files import FlatFiles, etag_of
from tickstock_assets.providers.http import Patience
from tickstock_assets.providers.polygon import Polygon
from tickstock_assets.providers.quota import Uncounted

PAYLOADS = Path(__file__).parent.parent / "data" / "polygon"
DAY = date(2024, 3, 8)
DAY_PATH = "us_stocks_sip/day_aggs_v1/2024/03/2024-03-08.csv.gz"
ACCESS_KEY, SECRET = "AKfiles-4711", "s3cret/of+files"
THREE_TRIES = Patience(tries=3, jitter_seconds=0)
QUICK = Patience(read_seconds=1, tries=3, jitter_seconds=0)


def put(folder: Path, path: str, text: bytes) -> Path:
    file = folder / path
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(gzip.compress(text))
    return file


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    put(tmp_path, DAY_PATH, (PAYLOADS / "day_aggs.csv").read_bytes())
    put(tmp_path, "us_stocks_sip/minute_aggs_v1/2024/03/2024-03-08.csv.gz", (PAYLOADS / "minute_aggs.csv").read_bytes())
    return tmp_path


def from_folder(folder: Path | str) -> FlatFiles:
    return FlatFiles(str(folder), patience=THREE_TRIES, sleep=lambda _: None)


# --- a local folder


@pytest.mark.parametrize("as_url", [False, True], ids=["path", "file URL"])
def test_a_day_is_read_in_the_vendors_columns_and_tickers_stay_text(folder: Path, *, as_url: bool) -> None:
    table = from_folder(folder.as_uri() if as_url else folder).fetch(Dataset.DAILY_BARS, DAY)
    assert table["ticker"].to_pylist() == ["AAPL", "NA", "TRUE"]
    assert table["volume"].to_pylist() == [68538100, 1200.5, 4000]
    assert table["window_start"].to_pylist() == [1709874000000000000] * 3
    minutes = from_folder(folder).fetch(Dataset.MINUTE_BARS, DAY)
    assert minutes["transactions"].to_pylist() == [31, 5]


def test_each_day_with_a_file_has_an_etag_and_the_file_read_bears_it(folder: Path) -> None:
    files = from_folder(folder)
    etags = files.etags(Dataset.DAILY_BARS, [DAY, date(2024, 3, 11), date(2024, 4, 1)])
    assert list(etags) == [DAY]
    assert etag_of(files.fetch(Dataset.DAILY_BARS, DAY)) == etags[DAY]


def test_a_replaced_file_has_another_etag_and_a_rewritten_one_is_read_anew(folder: Path) -> None:
    files = from_folder(folder)
    before = files.etags(Dataset.DAILY_BARS, [DAY])[DAY]
    file = put(folder, DAY_PATH, (PAYLOADS / "day_aggs.csv").read_bytes().replace(b"301.16", b"301.17"))
    os.utime(file, (1, 1))
    table = files.fetch(Dataset.DAILY_BARS, DAY)
    assert etag_of(table) == files.etags(Dataset.DAILY_BARS, [DAY])[DAY] != before
    assert table["close"].to_pylist()[0] == 301.17


def test_a_day_without_a_file_may_come_later(folder: Path) -> None:
    with pytest.raises(TransientProviderError, match=r"2024-03-11\.csv\.gz: expected the day's file, found none"):
        from_folder(folder).fetch(Dataset.DAILY_BARS, date(2024, 3, 11))


def test_a_file_with_a_value_that_is_no_number_is_read_as_text(folder: Path) -> None:
    put(folder, DAY_PATH, (PAYLOADS / "day_aggs.csv").read_bytes().replace(b"300.95", b"n/a"))
    provider = Polygon("pk_unused-4711", flat_files=from_folder(folder))
    payload = provider.fetch(Request(Dataset.DAILY_BARS, Window("*", DAY, DAY), "flat_files"))
    assert payload["open"].to_pylist() == ["n/a", "2.0", "14.2"]
    frame = provider.parse(Dataset.DAILY_BARS, payload)
    assert frame["symbol"].tolist() == ["AAPL", "NA", "TRUE"]
    assert frame["open"].fillna(-1).tolist() == [-1, 2.0, 14.2]
    assert set(frame["date"]) == {pd.Timestamp(DAY)}


def test_a_missing_number_is_missing_and_the_row_stays(folder: Path) -> None:
    put(folder, DAY_PATH, (PAYLOADS / "day_aggs.csv").read_bytes().replace(b"300.95", b""))
    assert from_folder(folder).fetch(Dataset.DAILY_BARS, DAY)["open"].to_pylist() == [None, 2.0, 14.2]


BROKEN = {
    "cut short": gzip.compress((PAYLOADS / "day_aggs.csv").read_bytes())[:-30],
    "not gzip": b"ticker,volume\n",
    "bad checksum": gzip.compress(b"ticker")[:-8] + b"12345678",
    "empty": b"",
    "other columns": gzip.compress(b"a,b\n1,2\n"),
    "empty text": gzip.compress(b""),
    "row with too few values": gzip.compress((PAYLOADS / "day_aggs.csv").read_bytes()[:-30]),
}


@pytest.mark.parametrize("content", BROKEN.values(), ids=BROKEN.keys())
def test_a_broken_file_is_an_error_and_never_half_a_table(folder: Path, content: bytes) -> None:
    (folder / DAY_PATH).write_bytes(content)
    with pytest.raises(TransientProviderError, match=r"2024-03-08.csv.gz: expected .* within 3 tries"):
        from_folder(folder).fetch(Dataset.DAILY_BARS, DAY)


def test_trades_are_not_among_the_files(folder: Path) -> None:
    with pytest.raises(PermanentProviderError, match="expected one of daily_bars, minute_bars, found trades"):
        from_folder(folder).fetch(Dataset.TRADES, DAY)


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("/no/such/folder", "expected a folder or https://host/bucket, found '/no/such/folder'"),
        ("https://files.massive.com", "expected https://host/bucket or a folder"),
        ("ftp://host/bucket", "expected https://host/bucket or a folder"),
        ("https://user:hush@host/bucket", "found 'https://host/bucket'"),
        ("https://files.massive.com/flatfiles", "expected an access key and a secret, found none"),
    ],
)
def test_a_wrong_place_is_told_in_a_sentence(url: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        FlatFiles(url)
    assert "hush" not in str(caught.value)


# --- an S3-compatible service


def bucket_of(objects: dict[str, bytes]) -> Callable[[Asked], Reply]:
    """Answer ListObjectsV2 and GetObject in path style, after the AWS reference."""

    def answer(asked: Asked) -> Reply:
        key = asked.path.removeprefix("/flatfiles").lstrip("/")
        if asked.query.get("list-type") == "2":
            prefix = asked.query.get("prefix", "")
            entries = "".join(
                f"<Contents><Key>{escape(name)}</Key><LastModified>2024-03-09T16:00:00.000Z</LastModified>"
                f"<ETag>&quot;{md5(content)}&quot;</ETag><Size>{len(content)}</Size></Contents>"
                for name, content in sorted(objects.items())
                if name.startswith(prefix)
            )
            listing = (
                f"<ListBucketResult><Name>flatfiles</Name><IsTruncated>false</IsTruncated>{entries}</ListBucketResult>"
            )
            return Reply(listing.encode(), headers={"Content-Type": "application/xml"})
        if key not in objects:
            return Reply(b"<Error><Code>NoSuchKey</Code></Error>", 404)
        headers = {"ETag": f'"{md5(objects[key])}"', "Last-Modified": "Sat, 09 Mar 2024 16:00:00 GMT"}
        return Reply(objects[key], headers=headers)

    return answer


def md5(content: bytes) -> str:
    return hashlib.md5(content).hexdigest()


def from_s3(server: ScriptedServer, **options: Any) -> FlatFiles:
    settings: dict[str, Any] = {"patience": THREE_TRIES, "sleep": lambda _: None} | options
    return FlatFiles(f"{server.url}/flatfiles", ACCESS_KEY, SECRET, **settings)


@pytest.fixture
def objects(folder: Path) -> dict[str, bytes]:
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*.gz")}


def test_s3_is_listed_by_the_month_and_signed_with_the_key(objects: dict[str, bytes]) -> None:
    with serving(bucket_of(objects)) as server:
        etags = from_s3(server).etags(Dataset.DAILY_BARS, [date(2024, 3, 11), DAY, DAY, date(2024, 4, 2)])
    assert list(etags) == [DAY]
    assert md5(objects[DAY_PATH]) in etags[DAY]
    assert [asked.query["prefix"] for asked in server.asked] == [
        "us_stocks_sip/day_aggs_v1/2024/03/",
        "us_stocks_sip/day_aggs_v1/2024/04/",
    ]
    assert ACCESS_KEY in server.asked[0].headers["authorization"]


def test_a_file_from_s3_bears_the_etag_that_the_list_gave(objects: dict[str, bytes]) -> None:
    with serving(bucket_of(objects)) as server:
        files = from_s3(server)
        listed = files.etags(Dataset.DAILY_BARS, [DAY])[DAY]
        table = files.fetch(Dataset.DAILY_BARS, DAY)
        assert table["ticker"].to_pylist() == ["AAPL", "NA", "TRUE"]
        assert etag_of(table) == listed
        # Replaced between the list and the next read: what was read is what is said.
        objects[DAY_PATH] = gzip.compress((PAYLOADS / "day_aggs.csv").read_bytes().replace(b"AAPL", b"AAPX"))
        replaced = files.fetch(Dataset.DAILY_BARS, DAY)
        assert replaced["ticker"].to_pylist()[0] == "AAPX"
        assert etag_of(replaced) == files.etags(Dataset.DAILY_BARS, [DAY])[DAY] != listed
    assert server.asked[1].path == f"/flatfiles/{DAY_PATH}"


FAULTS = {
    "server error": Reply(b"<Error><Code>InternalError</Code></Error>", 500),
    "slow down": Reply(b"<Error><Code>SlowDown</Code></Error>", 503),
    "hung up": Reply(hang_up=True),
    "cut": Reply(b"x" * 100, headers={"ETag": '"e"', "Last-Modified": "Sat, 09 Mar 2024 16:00:00 GMT"}, cut_after=40),
    "silent": Reply(stall=True),
    "broken": Reply(b"no gzip", headers={"ETag": '"e"', "Last-Modified": "Sat, 09 Mar 2024 16:00:00 GMT"}),
}


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS.keys())
def test_a_passing_fault_is_tried_again_and_each_try_is_counted(fault: Reply, objects: dict[str, bytes]) -> None:
    quota = Counting()
    patience = QUICK if fault.stall else THREE_TRIES
    with serving(fault, bucket_of(objects)) as server:
        assert from_s3(server, quota=quota, patience=patience).fetch(Dataset.DAILY_BARS, DAY).num_rows == 3
    assert (len(server.asked), quota.calls) == (2, 2)
    with serving(fault) as server:
        with pytest.raises(TransientProviderError, match="within 3 tries"):
            from_s3(server, patience=patience).fetch(Dataset.DAILY_BARS, DAY)
        assert server.times_asked(3) == 3


class Counting(Uncounted):
    def __init__(self) -> None:
        self.calls = 0

    def call(self) -> Any:
        self.calls += 1
        return super().call()


def test_a_file_that_s3_does_not_have_may_come_later(objects: dict[str, bytes]) -> None:
    with serving(bucket_of(objects)) as server:
        with pytest.raises(TransientProviderError, match="expected the day's file, found none"):
            from_s3(server).fetch(Dataset.DAILY_BARS, date(2024, 3, 11))
        assert len(server.asked) == 1


@pytest.mark.parametrize(
    ("status", "code", "kind"),
    [
        (403, "AccessDenied", NotEntitledError),
        (403, "InvalidAccessKeyId", BadKeyError),
        (403, "SignatureDoesNotMatch", BadKeyError),
        (401, "Unauthorized", BadKeyError),
        (404, "NoSuchBucket", PermanentProviderError),
        (400, "InvalidRequest", PermanentProviderError),
    ],
)
@pytest.mark.parametrize("listing", [False, True], ids=["get", "list"])
def test_a_refused_key_and_a_plan_without_files_are_told_apart_and_show_no_key(
    status: int, code: str, kind: type[Exception], caplog: pytest.LogCaptureFixture, *, listing: bool
) -> None:
    caplog.set_level(logging.DEBUG)
    error = (
        f"<Error><Code>{code}</Code><AWSAccessKeyId>{ACCESS_KEY}</AWSAccessKeyId><Message>{SECRET}</Message></Error>"
    )
    with serving(Reply(error.encode(), status)) as server:
        files = from_s3(server)
        try:
            files.etags(Dataset.DAILY_BARS, [DAY]) if listing else files.fetch(Dataset.DAILY_BARS, DAY)
        except PermanentProviderError as refused:
            told = traceback.format_exc() + repr(refused) + repr(refused.__context__)
            found = type(refused)
        else:
            pytest.fail("expected an error")
    assert found is kind
    assert len(server.asked) == 1
    assert ACCESS_KEY not in told + caplog.text + repr(files)
    assert SECRET not in told + caplog.text + repr(files)


def test_the_provider_hands_out_the_etags_of_its_files(folder: Path) -> None:
    provider = Polygon("pk_unused-4711", flat_files=from_folder(folder))
    assert list(provider.etags(Dataset.DAILY_BARS, "flat_files", [DAY])) == [DAY]
    assert provider.etags(Dataset.DAILY_BARS, "by_symbol", [DAY]) == {}
