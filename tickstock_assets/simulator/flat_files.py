"""Polygon's flat files: the part of S3 that reading them needs, over files made from the market on demand.

Path style: `/flatfiles?list-type=2&prefix=...` lists, `/flatfiles/us_stocks_sip/day_aggs_v1/2012/05/2012-05-18.csv.gz`
is GET or HEAD. Signatures are not verified; the access key is, where the plan names keys.

Source: Amazon's S3 API reference (ListObjectsV2, GetObject, HeadObject) and the vendor's description of its files.
"""

import base64
import gzip
import hashlib
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from email.utils import format_datetime
from functools import lru_cache
from io import BytesIO
from xml.sax.saxutils import escape

import numpy as np
import pyarrow as pa
import pyarrow.csv
from starlette.requests import Request

from tickstock_assets.simulator.asks import Answer, Ask, Endpoint, Reason, Refused, Timeframe, Vendor
from tickstock_assets.simulator.bar_service import BarService, rows_of
from tickstock_assets.simulator.bars import Row
from tickstock_assets.simulator.plans import Plan

BUCKET = "flatfiles"
FOLDERS: dict[str, Timeframe] = {"day_aggs_v1": "1d", "minute_aggs_v1": "1m"}
FILE = re.compile(r"us_stocks_sip/(day_aggs_v1|minute_aggs_v1)/(\d{4})/(\d{2})/(\d{4}-\d{2}-\d{2})\.csv\.gz")
COLUMNS = ("volume", "open", "close", "high", "low")
MOST_KEYS = 1_000
NAMESPACE = "http://s3.amazonaws.com/doc/2006-03-01/"
NANOSECONDS = 1_000_000
STATUS = {"NoSuchKey": 404, "NoSuchBucket": 404, "AccessDenied": 403, "InvalidAccessKeyId": 403, "SlowDown": 503}


@dataclass(frozen=True)
class Published:
    """One version of a file."""

    content: bytes
    modified: datetime

    @property
    def etag(self) -> str:
        """The content's MD5 in quotes, as S3 has it."""
        return f'"{hashlib.md5(self.content, usedforsecurity=False).hexdigest()}"'


def key_of(request: Request) -> str | None:
    """Return the access key of a signed request; None when it is not signed."""
    found = re.search(r"Credential=([^/,]+)/", request.headers.get("authorization", ""))
    return found[1] if found else request.query_params.get("X-Amz-Credential", "").partition("/")[0] or None


def failure(code: str, message: str) -> Answer:
    """Return an error as S3 writes it."""
    body = f'<?xml version="1.0" encoding="UTF-8"?>\n<Error><Code>{code}</Code><Message>{escape(message)}</Message></Error>'
    return Answer(STATUS[code], body.encode(), "application/xml")


def refusal(reason: Reason, _key: str | None) -> Answer:
    """Return what is said instead of an answer."""
    if reason is Reason.UNKNOWN_KEY:
        return failure("InvalidAccessKeyId", "The AWS Access Key Id you provided does not exist in our records.")
    return failure("SlowDown", "Please reduce your request rate.")


class FlatFiles:
    """Lists and serves a file for every session on which the market has bars."""

    def __init__(self, service: BarService, plan: Plan) -> None:
        self.service, self.market, self.plan = service, service.market, plan
        self._clean = lru_cache(maxsize=256)(self._make_clean)
        self._days: list[date] = []

    def endpoints(self) -> list[Endpoint]:
        """Return the addresses served."""
        return [
            Endpoint(f"/{BUCKET}", list_ask, self.listing),
            Endpoint(f"/{BUCKET}/", list_ask, self.listing),
            Endpoint(f"/{BUCKET}/{{key:path}}", file_ask, self.file),
        ]

    def file(self, ask: Ask) -> Answer:
        """Answer a file, or its headers only; a GET may bring a replacement about."""
        if ask.timeframe == "1m" and not self.plan.minutes:
            raise Refused(failure("AccessDenied", "Access Denied"))
        if not self.plan.covers(ask.first):
            raise Refused(failure("AccessDenied", "Access Denied"))
        if ask.first not in self._sessions():
            raise no_such_key()
        is_get = ask.parameters["method"] == "GET"
        published = self._published(ask, deliver=is_get)
        headers = {
            "ETag": published.etag,
            "Last-Modified": format_datetime(published.modified, usegmt=True),
            "Accept-Ranges": "bytes",
        }
        if ask.parameters.get("if-none-match") == published.etag:
            return Answer(304, b"", "application/gzip", headers)
        return _ranged(ask, published.content, headers)

    def listing(self, ask: Ask) -> Answer:
        """Answer a page of the names that begin with a prefix, up to a delimiter when one is given."""
        prefix, delimiter = ask.parameters.get("prefix", ""), ask.parameters.get("delimiter", "")
        after = ask.parameters.get("start-after", "")
        if "continuation-token" in ask.parameters:
            after = base64.urlsafe_b64decode(ask.parameters["continuation-token"]).decode()
        most = min(int(ask.parameters.get("max-keys", MOST_KEYS)), MOST_KEYS)
        entries = [entry for entry in self._entries(prefix, delimiter) if entry > after]
        page, more = entries[:most], len(entries) > most
        files = "".join(self._listed(name) for name in page if not name.endswith("/"))
        folders = "".join(
            f"<CommonPrefixes><Prefix>{name}</Prefix></CommonPrefixes>" for name in page if name.endswith("/")
        )
        token = base64.urlsafe_b64encode(page[-1].encode()).decode() if more else ""
        body = (
            f'<?xml version="1.0" encoding="UTF-8"?>\n<ListBucketResult xmlns="{NAMESPACE}"><Name>{BUCKET}</Name>'
            f"<Prefix>{escape(prefix)}</Prefix><Delimiter>{escape(delimiter)}</Delimiter><MaxKeys>{most}</MaxKeys>"
            f"<KeyCount>{len(page)}</KeyCount><IsTruncated>{str(more).lower()}</IsTruncated>"
            + (f"<NextContinuationToken>{token}</NextContinuationToken>" if more else "")
            + f"{files}{folders}</ListBucketResult>"
        )
        return Answer(200, body.encode(), "application/xml")

    def _listed(self, name: str) -> str:
        published = self._published(_ask_of(name, "HEAD"), deliver=False)
        return (
            f"<Contents><Key>{name}</Key><LastModified>{published.modified:%Y-%m-%dT%H:%M:%S}.000Z</LastModified>"
            f"<ETag>{escape(published.etag, {chr(34): '&quot;'})}</ETag><Size>{len(published.content)}</Size>"
            "<StorageClass>STANDARD</StorageClass></Contents>"
        )

    def _entries(self, prefix: str, delimiter: str) -> Sequence[str]:
        """Return names and, where a delimiter follows the prefix, the folders that they are in; in order."""
        found = []
        for name in self._names(prefix):
            rest = name[len(prefix) :]
            cut = rest.find(delimiter) if delimiter else -1
            found.append(name if cut < 0 else name[: len(prefix) + cut + 1])
        return sorted(set(found))

    def _names(self, prefix: str) -> Iterator[str]:
        for folder in FOLDERS:
            for day in self._sessions():
                name = f"us_stocks_sip/{folder}/{day:%Y/%m}/{day}.csv.gz"
                if name.startswith(prefix) and self.plan.covers(day):
                    yield name

    def _sessions(self) -> list[date]:
        """Return the days that have a file, in order."""
        self._days = self._days or self.market.sessions()
        return self._days

    def _published(self, ask: Ask, *, deliver: bool) -> Published:
        """Return the version of a file that a GET gives now; it may be wrong the first time and replaced after it."""
        assert ask.first is not None  # noqa: S101 it is in the name
        assert ask.timeframe is not None  # noqa: S101
        parts = self.market.day(ask.timeframe, ask.first)
        version = self.service.play.version(ask)
        # Listing and HEAD must tell of the same file that GET will give, without counting as delivered.
        rows = self.service.answered(ask, parts) if deliver else self.service.preview(ask, parts)
        published = at_midnight(ask.first) + timedelta(hours=11)
        if rows is None:
            replaced = timedelta(days=1) if version and self.service.was_wrong(ask) else timedelta()
            return Published(self._clean(ask.timeframe, ask.first), published + replaced)
        return Published(_compressed(rows), published)

    def _make_clean(self, timeframe: Timeframe, day: date) -> bytes:
        return _compressed(rows_of(self.market.day(timeframe, day)))


def at_midnight(day: date) -> datetime:
    """Return the UTC midnight after a day; files are published in the morning that follows."""
    return datetime(day.year, day.month, day.day, tzinfo=UTC) + timedelta(days=1)


def list_ask(request: Request) -> Ask:
    """Read what is to be listed."""
    return Ask(Vendor.FLAT_FILES, "list", parameters=dict(request.query_params))


def file_ask(request: Request) -> Ask:
    """Read which file is meant."""
    ask = _ask_of(request.path_params["key"], request.method)
    headers = {name: request.headers[name] for name in ("range", "if-none-match") if name in request.headers}
    return replace(ask, parameters={**ask.parameters, **headers})


def _ask_of(name: str, method: str) -> Ask:
    found = FILE.fullmatch(name)
    if not found or not found[4].startswith(f"{found[2]}-{found[3]}"):
        raise no_such_key()
    try:
        day = date.fromisoformat(found[4])
    except ValueError:
        raise no_such_key() from None
    folder = found[1]
    return Ask(Vendor.FLAT_FILES, folder, first=day, last=day, timeframe=FOLDERS[folder], parameters={"method": method})


def no_such_key() -> Refused:
    """Return what is said of a file that does not exist."""
    return Refused(failure("NoSuchKey", "The specified key does not exist."))


def _compressed(rows: Sequence[Row]) -> bytes:
    """Return the file: ticker,volume,open,close,high,low,window_start (Unix nanoseconds),transactions."""
    columns = {name: np.array([row[name] for row in rows], np.float64) for name in COLUMNS}
    table = pa.table(
        {
            "ticker": pa.array([row["symbol"] for row in rows], pa.string()),
            **columns,
            "window_start": np.array([row["start_ms"] for row in rows], np.int64) * NANOSECONDS,
            "transactions": np.array([row["trades_count"] for row in rows], np.float64).astype(np.int64),
        }
    )
    text = BytesIO()
    pyarrow.csv.write_csv(table, text, pyarrow.csv.WriteOptions(quoting_style="none", quoting_header="none"))
    # Without a time in it, the same rows are the same file.
    return gzip.compress(text.getvalue(), compresslevel=1, mtime=0)


def _ranged(ask: Ask, content: bytes, headers: dict[str, str]) -> Answer:
    """Return the whole content, or the range of bytes that is asked for."""
    found = re.fullmatch(r"bytes=(\d*)-(\d*)", ask.parameters.get("range", ""))
    if not found or found[0] == "bytes=-":
        return Answer(200, content, "application/gzip", headers)
    if found[1]:
        first, last = int(found[1]), min(int(found[2] or len(content)), len(content) - 1)
    else:
        first, last = max(len(content) - int(found[2]), 0), len(content) - 1
    where = {"Content-Range": f"bytes {first}-{last}/{len(content)}"}
    return Answer(206, content[first : last + 1], "application/gzip", headers | where)
