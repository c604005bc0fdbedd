"""Massive's flat files: one gzipped CSV a day of the whole market, in an S3 bucket or, laid out alike, in a local folder.

Elsewhere: reading a landed file (`polygon_parsing.py`). A published file can be replaced later; its ETag tells.
"""

import gzip
import io
import random
import re
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import date, timedelta
from pathlib import Path
from typing import TypeVar, cast
from urllib.parse import urlsplit
from urllib.request import url2pathname
from zlib import error as ZlibError  # noqa: N812  # zlib gives its exception the name of a variable

import obstore
import obstore.exceptions
import pyarrow as pa
import pyarrow.csv
import tenacity
from obstore.store import LocalStore, S3Store
from pydantic import SecretStr

from tickstock_assets.domain.errors import (
    BadKeyError,
    ConfigError,
    NotEntitledError,
    PermanentProviderError,
    TransientProviderError,
)
from tickstock_assets.providers.base import Dataset
from tickstock_assets.providers.http import Patience, TryAgainError
from tickstock_assets.providers.quota import Quota, Uncounted
from tickstock_assets.providers.redaction import Redaction

FILES_OF = {
    Dataset.DAILY_BARS: "us_stocks_sip/day_aggs_v1",
    Dataset.MINUTE_BARS: "us_stocks_sip/minute_aggs_v1",
}
COLUMNS = {
    "ticker": pa.string(),
    **dict.fromkeys(["volume", "open", "close", "high", "low"], pa.float64()),
    "window_start": pa.int64(),
    "transactions": pa.int64(),
}
ETAG = b"etag"
# Codes of S3: to a wrong key, as against one that may not read this object.
BAD_KEY_CODES = ("InvalidAccessKeyId", "SignatureDoesNotMatch", "ExpiredToken", "InvalidToken")
NO_BUCKET = "NoSuchBucket"
# Only for some statuses the store has an exception of its own, and not when it lists.
STATUS = re.compile(r"status code: (\d{3})")
PASSING = {408, 429}
T = TypeVar("T")


class FlatFiles:
    """Day and minute bars by the file.

    Args:
        url: `https://host/bucket` of an S3-compatible service, or a folder (a path or `file://` URL).
        access_key, secret: for S3; not the key of the REST API.
        quota: each request, each repetition of one included, is one call of it.
        patience: timeouts and retries.
        sleep: waits between tries.
    """

    def __init__(
        self,
        url: str,
        access_key: SecretStr | str = "",
        secret: SecretStr | str = "",
        *,
        quota: Quota | None = None,
        patience: Patience | None = None,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._patience = patience or Patience()
        self._store = _open(url, _plain(access_key), _plain(secret), self._patience)
        self._redact = Redaction(access_key, secret)
        self._quota: Quota = quota or Uncounted()
        self._sleep = sleep

    def etags(self, dataset: Dataset, days: Sequence[date]) -> Mapping[date, str]:
        """Return the ETag of each day's file; a day without a file is left out. One request a month.

        Raises:
            TransientProviderError, BadKeyError, NotEntitledError, PermanentProviderError: it cannot be listed.
        """
        found: dict[str, str] = {}
        for year, month in sorted({(day.year, day.month) for day in days}):
            prefix = f"{_folder(dataset)}/{year:04}/{month:02}/"
            found |= self._asking(prefix, lambda prefix=prefix: self._listed(prefix))  # type: ignore[misc]
        return {day: found[path] for day in sorted(set(days)) if (path := _path(dataset, day)) in found}

    def fetch(self, dataset: Dataset, day: date) -> pa.Table:
        """Return a day's file in its own columns; the ETag of what was read is in the schema's metadata (`etag_of`).

        A column with a value of the wrong type comes as text.

        Raises:
            TransientProviderError: the file is not there (yet), or did not arrive whole.
            BadKeyError, NotEntitledError, PermanentProviderError: it may not be read.
        """
        path = _path(dataset, day)
        return self._asking(path, lambda: self._read(path))

    def _listed(self, prefix: str) -> dict[str, str]:
        # A month is never more than the thousand objects that one listing gives.
        return {
            str(entry["path"]): str(entry["e_tag"])
            for page in obstore.list(self._store, prefix=prefix)
            for entry in page
            if entry["e_tag"]
        }

    def _read(self, path: str) -> pa.Table:
        response = obstore.get(self._store, path)
        meta = response.meta
        content = bytes(response.bytes())
        if len(content) != meta["size"]:
            raise TryAgainError(f"expected {meta['size']} bytes, found {len(content)}")
        try:
            text = gzip.decompress(content)
        except (OSError, EOFError, ZlibError) as error:
            raise TryAgainError(f"expected a gzip file, found one that is broken or cut short ({error})") from None
        return _table(text).replace_schema_metadata({ETAG: str(meta["e_tag"] or "").encode()})

    def _asking(self, path: str, ask: Callable[[], T]) -> T:
        """Return what one request gives, asked again after passing faults."""
        patience = self._patience
        retrying = tenacity.Retrying(
            retry=tenacity.retry_if_exception_type(TryAgainError),
            stop=tenacity.stop_after_attempt(patience.tries),
            wait=lambda state: (
                min(patience.first_wait_seconds * 2 ** (state.attempt_number - 1), patience.longest_wait_seconds)
                + random.uniform(0, patience.jitter_seconds)  # noqa: S311  # no secret hangs on it
            ),
            sleep=self._sleep,
            reraise=True,
        )
        failure: Exception
        try:
            return cast(T, retrying(self._counted, path, ask))
        except TryAgainError as error:
            failure = TransientProviderError(
                f"polygon flat files: {path}: expected an answer within {patience.tries} tries, found {error}; "
                "try again later"
            )
        raise failure

    def _counted(self, path: str, ask: Callable[[], T]) -> T:
        # What is raised here is raised outside of `except`: the store's own exception names what was signed.
        failure: Exception
        try:
            with self._quota.call():
                return ask()
        except TryAgainError as error:
            failure = TryAgainError(self._redact(str(error)))
        except (obstore.exceptions.BaseError, OSError) as error:
            failure = self._refused_or_failed(path, error)
        raise failure

    def _refused_or_failed(self, path: str, error: Exception) -> Exception:
        said = " ".join(self._redact(str(error)).split())
        status = STATUS.search(said)
        code = int(status[1]) if status else None
        at = f"polygon flat files: {path}"
        if code == 401 or (code == 403 and any(name in said for name in BAD_KEY_CODES)):
            return BadKeyError(
                f"{at}: expected a valid access key and secret, found them refused; take them from the vendor's "
                "dashboard, they are not the key of the REST API"
            )
        if code == 403:
            return NotEntitledError(f"{at}: expected a plan that includes this file, found access denied")
        if NO_BUCKET in said:
            return PermanentProviderError(f"{at}: expected an existing bucket, found none; correct the URL")
        if isinstance(error, FileNotFoundError):
            return TransientProviderError(
                f"{at}: expected the day's file, found none; it is published by about 11:00 New York time on the next "
                "day, try again later"
            )
        if code is not None and 300 <= code < 500 and code not in PASSING:
            return PermanentProviderError(f"{at}: the request is refused: {said[:300]}")
        return TryAgainError(f"{type(error).__name__}: {said[:300]}")


def etag_of(payload: pa.Table) -> str | None:
    """Return the ETag of the file that a payload was read from; None where it did not come from a file."""
    etag: bytes | None = (payload.schema.metadata or {}).get(ETAG)
    return etag.decode() if etag else None


def _open(url: str, access_key: str, secret: str, patience: Patience) -> LocalStore | S3Store:
    parts = urlsplit(url)
    if parts.scheme in ("", "file"):
        folder = Path(url2pathname(parts.path) if parts.scheme else url).expanduser()
        if not folder.is_dir():
            raise ConfigError(f"Flat files: expected a folder or https://host/bucket, found {url!r}")
        return LocalStore(folder.resolve())
    bucket, _, prefix = parts.path.strip("/").partition("/")
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.username or not bucket:
        shown = parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()
        raise ConfigError(f"Flat files: expected https://host/bucket or a folder, found {shown!r}")
    if not access_key or not secret:
        raise ConfigError(f"Flat files at {url}: expected an access key and a secret, found none; set both")
    return S3Store(
        bucket,
        prefix=prefix or None,
        endpoint=f"{parts.scheme}://{parts.netloc}",
        access_key_id=access_key,
        secret_access_key=secret,
        region="us-east-1",
        virtual_hosted_style_request=False,
        client_options={
            "allow_http": parts.scheme == "http",
            "connect_timeout": timedelta(seconds=patience.connect_seconds),
            "read_timeout": timedelta(seconds=patience.read_seconds),
            "timeout": timedelta(seconds=patience.answer_seconds),
        },
        # Repetitions are ours, so that each one is counted.
        retry_config={"max_retries": 0},
    )


def _table(text: bytes) -> pa.Table:
    try:
        return _csv(text, COLUMNS)
    except pa.ArrowInvalid:
        # A value that is no number: the file is kept as it is and read as text.
        return _csv(text, dict.fromkeys(COLUMNS, pa.string()))


def _csv(text: bytes, types: Mapping[str, pa.DataType]) -> pa.Table:
    try:
        return pyarrow.csv.read_csv(
            io.BytesIO(text),
            # Not null: a company may trade as NA or NULL. Numbers may be missing.
            convert_options=pyarrow.csv.ConvertOptions(
                column_types=types, include_columns=list(COLUMNS), null_values=[""], strings_can_be_null=False
            ),
        )
    except (pa.ArrowKeyError, pa.ArrowInvalid) as error:
        if isinstance(error, pa.ArrowInvalid) and "conversion error" in str(error):
            raise
        found = text[:200].decode(errors="replace").splitlines()[:1]
        raise TryAgainError(f"expected a CSV with the columns {','.join(COLUMNS)}, found {found}") from None


def _folder(dataset: Dataset) -> str:
    if dataset not in FILES_OF:
        raise PermanentProviderError(
            f"polygon flat files: expected one of {', '.join(FILES_OF)}, found {dataset}; use another route"
        )
    return FILES_OF[dataset]


def _path(dataset: Dataset, day: date) -> str:
    return f"{_folder(dataset)}/{day:%Y/%m/%Y-%m-%d}.csv.gz"


def _plain(secret: SecretStr | str) -> str:
    return secret.get_secret_value() if isinstance(secret, SecretStr) else secret
