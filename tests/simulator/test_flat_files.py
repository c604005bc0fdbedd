"""Flat files over S3: what a client needs to list, compare and read them."""

import gzip
import xml.etree.ElementTree as ElementTree
from datetime import date

import obstore
import pandas as pd
import pytest
from obstore.store import S3Store

from tests.simulator.client import get, small_market
from tickstock_assets.simulator import Fault, Market, Plan, Simulator, Vendor

DAY = "us_stocks_sip/day_aggs_v1/2012/05/2012-05-18.csv.gz"
WINTER_DAY = "us_stocks_sip/day_aggs_v1/2022/12/2022-12-01.csv.gz"
S3 = "{http://s3.amazonaws.com/doc/2006-03-01/}"


@pytest.fixture(scope="module")
def simulator():
    with Simulator(Market()) as it:
        yield it


def listed(simulator: Simulator, **parameters: str) -> ElementTree.Element:
    return ElementTree.fromstring(get(simulator, "/flatfiles", key=None, **{"list-type": "2", **parameters}).data)


def store(simulator: Simulator, key: str = "key", secret: str = "secret") -> S3Store:
    return S3Store(
        "flatfiles", endpoint=simulator.url, access_key_id=key, secret_access_key=secret, region="us-east-1",
        virtual_hosted_style_request=False, client_options={"allow_http": True}, retry_config={"max_retries": 0},
    )  # fmt: skip


def test_a_day_is_as_the_documentation_shows_it(simulator: Simulator) -> None:
    answer = get(simulator, f"/flatfiles/{DAY}", key=None)
    lines = gzip.decompress(answer.data).decode().splitlines()
    assert lines[0] == "ticker,volume,open,close,high,low,window_start,transactions"
    # Facebook's first day, at midnight in New York in Unix nanoseconds.
    [facebook] = [line.split(",") for line in lines if line.startswith("FB,")]
    assert facebook[:7] == ["FB", "573576400", "42.05", "38.2318", "45", "38", "1337313600000000000"]
    assert [line.split(",")[0] for line in lines[1:]] == ["AAPL", "FB", "GOOG", "IBM", "MSFT"]
    assert answer.headers["etag"].startswith('"')
    assert int(answer.headers["content-length"]) == len(answer.data)


def test_prices_are_not_adjusted_and_minutes_are_the_markets(simulator: Simulator) -> None:
    path = "/flatfiles/us_stocks_sip/minute_aggs_v1/2005/02/2005-02-25.csv.gz"
    lines = gzip.decompress(get(simulator, path, key=None).data).decode().splitlines()
    found = [line.split(",") for line in lines if line.startswith("AAPL,")]
    expected = simulator.market.minutes("AAPL", date(2005, 2, 25), date(2005, 2, 25))
    assert [float(row[3]) for row in found] == expected["close"].tolist()
    assert float(found[-1][3]) == 88.99
    assert [pd.Timestamp(int(row[6]), unit="ns", tz="UTC") for row in found] == expected["timestamp"].tolist()


def test_a_month_is_listed_in_pages(simulator: Simulator) -> None:
    prefix = "us_stocks_sip/day_aggs_v1/2012/05/"
    names, token = [], {}
    for page in range(1, 4):
        found = listed(simulator, prefix=prefix, **{"max-keys": "10"}, **token)
        names += [str(key.text) for key in found.iter(f"{S3}Key")]
        assert found.findtext(f"{S3}IsTruncated") == ("true" if page < 3 else "false")
        token = {"continuation-token": found.findtext(f"{S3}NextContinuationToken") or ""}
    # May 2012 had 22 sessions: 31 days without 8 weekend days and Memorial Day.
    assert len(names) == 22
    assert names == sorted(set(names))
    assert DAY in names


def test_a_listing_tells_size_and_etag_of_what_get_gives(simulator: Simulator) -> None:
    found = listed(simulator, prefix=DAY)
    answer = get(simulator, f"/flatfiles/{DAY}", key=None)
    [contents] = found.iter(f"{S3}Contents")
    assert contents.findtext(f"{S3}ETag") == answer.headers["etag"]
    assert int(contents.findtext(f"{S3}Size") or 0) == len(answer.data)


def test_folders_are_common_prefixes(simulator: Simulator) -> None:
    found = listed(simulator, prefix="us_stocks_sip/day_aggs_v1/", delimiter="/")
    prefixes = [str(prefix.findtext(f"{S3}Prefix")) for prefix in found.iter(f"{S3}CommonPrefixes")]
    assert prefixes == [f"us_stocks_sip/day_aggs_v1/{year}/" for year in range(2000, 2014)]


def test_a_day_without_a_session_has_no_file(simulator: Simulator) -> None:
    for name in (DAY.replace("05-18", "05-19"), "us_stocks_sip/quotes_v1/2012/05/2012-05-18.csv.gz", "x"):
        answer = get(simulator, f"/flatfiles/{name}", key=None)
        assert answer.status == 404
        assert ElementTree.fromstring(answer.data).findtext("Code") == "NoSuchKey"


def test_a_well_kept_client_lists_reads_and_compares(simulator: Simulator) -> None:
    client = store(simulator)
    names = [item["path"] for batch in obstore.list(client, "us_stocks_sip/day_aggs_v1/2012/05") for item in batch]
    assert len(names) == 22
    about = obstore.head(client, DAY)
    answer = obstore.get(client, DAY)
    content = bytes(answer.bytes())
    assert (answer.meta["e_tag"], answer.meta["size"]) == (about["e_tag"], len(content))
    assert gzip.decompress(content).startswith(b"ticker,volume")
    assert bytes(obstore.get_range(client, DAY, start=2, length=10)) == content[2:12]
    with pytest.raises(FileNotFoundError):
        obstore.get(client, DAY.replace("05-18", "05-19"))


def test_the_access_key_is_checked_and_the_plan_kept() -> None:
    plan = Plan(keys=frozenset({"known"}), history_start=date(2022, 12, 1))
    with Simulator(small_market(), {Vendor.FLAT_FILES: plan}) as simulator:
        with pytest.raises(obstore.exceptions.PermissionDeniedError, match="InvalidAccessKeyId"):
            obstore.get(store(simulator, "unknown"), WINTER_DAY)
        assert obstore.get(store(simulator, "known"), WINTER_DAY).meta["size"] > 0
        with pytest.raises(obstore.exceptions.PermissionDeniedError, match="AccessDenied"):
            obstore.get(store(simulator, "known"), WINTER_DAY.replace("2022/12/2022-12-01", "2022/11/2022-11-30"))


def test_a_file_with_the_etag_that_is_known_already_is_not_sent_again(simulator: Simulator) -> None:
    etag = get(simulator, f"/flatfiles/{DAY}", key=None).headers["etag"]
    with pytest.raises(obstore.exceptions.NotModifiedError):
        obstore.get(store(simulator), DAY, options={"if_none_match": etag})


def test_a_replaced_file_has_another_etag_after_the_first_get() -> None:
    with Simulator(small_market()) as simulator:
        simulator.script(Fault.REPLACED_FILE, vendor=Vendor.FLAT_FILES)
        first, second, third = (get(simulator, f"/flatfiles/{WINTER_DAY}", key=None) for _ in range(3))
        assert first.headers["etag"] != second.headers["etag"] == third.headers["etag"]
        assert first.headers["last-modified"] != second.headers["last-modified"]
        [wrong] = simulator.record.wrong_rows
        assert wrong.sent is not None
        assert wrong.true is not None
        lines = [gzip.decompress(answer.data).decode().splitlines() for answer in (first, second)]
        [(sent, true)] = [(a.split(","), b.split(",")) for a, b in zip(*lines, strict=True) if a != b]
        assert (float(sent[3]), float(true[3])) == (wrong.sent["close"], wrong.true["close"])
        assert float(sent[1]) - float(true[1]) == 100
