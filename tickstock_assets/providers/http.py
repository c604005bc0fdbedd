"""HTTP as every vendor is asked: real timeouts, each try counted, retries that heed Retry-After, no key in any message.

The vendors' clients keep their URLs and parameters; only the pool of connections below them is replaced by a `Transport`.
Elsewhere: what an answer means (each vendor's module, through `judge`) and counting (`quota.py`).
"""

import http.client
import logging
import random
import ssl
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, NoReturn
from urllib.parse import urlencode, urlsplit

import certifi
import orjson
import tenacity
import urllib3
from pydantic import SecretStr

from tickstock_assets.domain.errors import (
    BadKeyError,
    NotEntitledError,
    PermanentProviderError,
    QuotaExhaustedError,
    TransientProviderError,
    UnknownSymbolError,
)
from tickstock_assets.providers.quota import Quota, Uncounted
from tickstock_assets.providers.redaction import Redaction, keep_out_of_logs
from tickstock_assets.providers.retry_after import seconds_to_wait

log = logging.getLogger(__name__)

OK = 200
TOO_MANY_REQUESTS = 429
# Request timeout, too many requests, and the 499 that proxies give for a request cut short; so is any 5xx but those
# that say "never": not implemented, HTTP version.
TRANSIENT_BELOW_500 = {408, TOO_MANY_REQUESTS, 499}
NEVER_ABOVE_500 = {501, 505}
BY_STATUS: Mapping[int, type[PermanentProviderError]] = {
    401: BadKeyError,
    403: NotEntitledError,
    404: UnknownSymbolError,
}
CHUNK_BYTES = 1 << 16


@dataclass(frozen=True)
class Patience:
    """How long to wait for an answer and how often to ask again.

    Attributes:
        connect_seconds: until a connection stands.
        read_seconds: until the next byte comes.
        answer_seconds: until the whole answer is there; without it a vendor that drips bytes would hold us for ever.
        tries: of one request, the first included.
        first_wait_seconds: before the second try; doubled before each further one. Six tries wait 62 s together, which
            outlasts the minute that vendors count calls in.
        longest_wait_seconds: the doubling ends here.
        jitter_seconds: at most this much is added to each wait, so that processes do not come back together.
        longest_retry_after_seconds: what a Retry-After may ask for; beyond it the caller is told until when.
    """

    connect_seconds: float = 10
    read_seconds: float = 30
    answer_seconds: float = 120
    tries: int = 6
    first_wait_seconds: float = 2
    longest_wait_seconds: float = 60
    jitter_seconds: float = 1
    longest_retry_after_seconds: float = 120


@dataclass(frozen=True)
class Answer:
    """What came back, as the vendors' clients expect it of urllib3 (`status`, `headers`, `data`) and decoded.

    Attributes:
        status: of HTTP.
        url: what was asked, the key blacked out.
        headers: of the answer, names in any case.
        data: the body, decompressed.
        body: the decoded body; None where an error's body cannot be decoded.
    """

    status: int
    url: str
    headers: Mapping[str, str] = field(repr=False)
    data: bytes = field(repr=False)
    body: Any = field(repr=False)

    @property
    def path(self) -> str:
        """Return the path that was asked for."""
        return urlsplit(self.url).path


class TryAgainError(TransientProviderError):
    """One try failed; `retry_after_seconds` is how long the vendor wants us to wait, if it said so."""

    def __init__(self, reason: str, retry_after_seconds: float | None = None) -> None:
        super().__init__(reason)
        self.retry_after_seconds = retry_after_seconds


def accept(_: Answer) -> None:
    """Find nothing wrong with an answer."""


class Transport:
    """GET requests to one vendor; takes the place of `urllib3.PoolManager` in a vendor's client.

    Args:
        name: the vendor, for messages.
        key: what must never be shown.
        quota: each try is one call of it.
        judge: looks at every answer of status 200 and at refusals (4xx), inside the retries. It returns where there is
            nothing wrong, or raises: TryAgainError to try again, QuotaExhaustedError (which `quota` is told),
            PermanentProviderError or one of its kinds. What it raises should name what was found; the request and the
            number of tries are added here. A refusal that it lets pass gets the usual error of its status.
        decode: of a body; ValueError means that it is broken or cut short, which is tried again.
        patience: timeouts and retries.
        sleep: waits; raises KeyboardInterrupt like `time.sleep` when the user does.
        now: the time, UTC.
    """

    def __init__(
        self,
        name: str,
        key: SecretStr | str,
        *,
        quota: Quota | None = None,
        judge: Callable[[Answer], None] = accept,
        decode: Callable[[bytes], Any] = orjson.loads,
        patience: Patience | None = None,
        sleep: Callable[[float], None] = time.sleep,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self.name = name
        self._redact = Redaction(key)
        self._quota: Quota = quota or Uncounted()
        self._judge = judge
        self._decode = decode
        self._patience = patience or Patience()
        self._sleep = sleep
        self._now = now
        self._pool = urllib3.PoolManager(
            maxsize=10,
            retries=False,
            timeout=urllib3.Timeout(connect=self._patience.connect_seconds, read=self._patience.read_seconds),
            cert_reqs="CERT_REQUIRED",
            ca_certs=certifi.where(),
        )
        # At level DEBUG urllib3 logs the URL of each request.
        keep_out_of_logs(self._redact)

    def get(
        self, url: str, params: Mapping[str, Any] | None = None, headers: Mapping[str, str] | None = None
    ) -> Answer:
        """Return the answer to a GET request, once one is good.

        Raises:
            TransientProviderError: no try gave a good answer.
            QuotaExhaustedError: the budget is used up, or the vendor asks for a longer wait than we sleep.
            BadKeyError, NotEntitledError, UnknownSymbolError, PermanentProviderError: it refuses.
        """
        if params:
            url += ("&" if "?" in url else "?") + urlencode(params)
        shown = self._redact(url)
        retrying = tenacity.Retrying(
            retry=tenacity.retry_if_exception_type(TryAgainError),
            stop=tenacity.stop_after_attempt(self._patience.tries),
            wait=self._wait,
            sleep=self._sleep,
            before_sleep=lambda state: log.info(
                "%s: %s: %s; again in %.1f s", self.name, shown, _reason(state), state.upcoming_sleep
            ),
            retry_error_callback=lambda state: self._give_up(shown, _reason(state)),
        )
        answer: Answer = retrying(self._try, url, shown, dict(headers or {}))
        return answer

    def request(
        self,
        method: str,
        url: str,
        fields: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        """Return the answer to a GET request; the signature is urllib3's."""
        if method != "GET":
            raise PermanentProviderError(f"{self.name}: expected a GET request, found {method}")
        return self.get(url, fields, headers)

    def _try(self, url: str, shown: str, headers: dict[str, str]) -> Answer:
        with self._quota.call():
            status, answer_headers, content = self._exchange(url, headers)
        answer = Answer(status, shown, answer_headers, content, self._decoded(status, content))
        if status in TRANSIENT_BELOW_500 or (status >= 500 and status not in NEVER_ABOVE_500):
            self._ask_later(answer)
        self._ask_the_judge(answer)
        if status != OK:
            self._refuse(answer)
        return answer

    def _ask_the_judge(self, answer: Answer) -> None:
        # Its messages may quote the vendor, who may quote the key, so they are raised anew and outside of `except`.
        failure: Exception
        try:
            self._judge(answer)
        except TryAgainError as error:
            self._heed(error.retry_after_seconds)
            failure = TryAgainError(self._redact(str(error)), error.retry_after_seconds)
        except QuotaExhaustedError as error:
            self._quota.blocked(error.until)
            failure = QuotaExhaustedError(self._redact(str(error)), error.until)
        except PermanentProviderError as error:
            failure = type(error)(self._redact(f"{self.name}: {answer.url}: {error}"))
        else:
            return
        raise failure

    def _exchange(self, url: str, headers: dict[str, str]) -> tuple[int, Mapping[str, str], bytes]:
        """Return status, headers and body of one request."""
        # What is raised here is raised outside of `except`: the caught exception may hold the URL and with it the key.
        failure: Exception
        try:
            response = self._pool.request(
                "GET", url, headers={"Accept-Encoding": "gzip"} | headers, redirect=False, preload_content=False
            )
            try:
                content = self._content(response)
            except BaseException:
                response.close()
                raise
            response.release_conn()
        except TryAgainError:
            raise
        except urllib3.exceptions.LocationValueError as error:
            failure = PermanentProviderError(
                f"{self.name}: expected an address such as https://host, found {self._redact(url)} ({self._redact(str(error))})"
            )
        except (urllib3.exceptions.HTTPError, http.client.HTTPException, OSError) as error:
            failure = self._network_failure(error)
        else:
            return response.status, response.headers, content
        raise failure

    def _content(self, response: urllib3.BaseHTTPResponse) -> bytes:
        deadline = time.monotonic() + self._patience.answer_seconds
        chunks = []
        while chunk := response.read1(CHUNK_BYTES, decode_content=True):
            chunks.append(chunk)
            if time.monotonic() > deadline:
                raise TryAgainError(f"the answer was not complete after {self._patience.answer_seconds:g} s")
        return b"".join(chunks)

    def _network_failure(self, error: Exception) -> Exception:
        found = self._redact(f"{type(error).__name__}: {error}")
        if any(isinstance(cause, ssl.SSLCertVerificationError) for cause in (error, *error.args)):
            return PermanentProviderError(
                f"{self.name}: expected a certificate that can be trusted, found {found}; correct the base URL"
            )
        return TryAgainError(found)

    def _decoded(self, status: int, content: bytes) -> Any:
        try:
            return self._decode(content)
        except ValueError as error:
            found = self._redact(f"the answer is broken or cut short ({len(content)} bytes): {error}")
        if status == OK:
            raise TryAgainError(found)
        return None

    def _ask_later(self, answer: Answer) -> NoReturn:
        seconds = seconds_to_wait(answer.headers.get("Retry-After"), self._now())
        self._heed(seconds)
        raise TryAgainError(self._redact(f"HTTP {answer.status}{_vendor_message(answer)}"), seconds)

    def _heed(self, seconds: float | None) -> None:
        """Tell every process how long the vendor wants to be left alone; raise when that is too long to sit out."""
        if seconds is None:
            return
        until = self._now() + timedelta(seconds=seconds)
        self._quota.blocked(until)
        if seconds > self._patience.longest_retry_after_seconds:
            raise QuotaExhaustedError(
                f"{self.name}: the vendor wants no call before {until:%Y-%m-%d %H:%M:%S} UTC; continue then", until
            )

    def _refuse(self, answer: Answer) -> NoReturn:
        kind = BY_STATUS.get(answer.status, PermanentProviderError)
        raise kind(self._redact(f"{self.name}: {answer.url}: HTTP {answer.status}{_vendor_message(answer)}"))

    def _wait(self, state: tenacity.RetryCallState) -> float:
        error = state.outcome.exception() if state.outcome else None
        wait = getattr(error, "retry_after_seconds", None)
        if wait is None:
            doubled = self._patience.first_wait_seconds * 2 ** (state.attempt_number - 1)
            wait = min(doubled, self._patience.longest_wait_seconds)
        return float(wait + random.uniform(0, self._patience.jitter_seconds))  # noqa: S311  # no secret hangs on it

    def _give_up(self, shown: str, reason: str) -> NoReturn:
        raise TransientProviderError(
            f"{self.name}: {shown}: expected an answer within {self._patience.tries} tries, found {reason}; try again later"
        )


def _reason(state: tenacity.RetryCallState) -> str:
    return str(state.outcome.exception()) if state.outcome else "no answer"


def _vendor_message(answer: Answer) -> str:
    """Return what the vendor says of an error, in brackets, or nothing."""
    body = answer.body if isinstance(answer.body, dict) else {}
    text = next((body[name] for name in ("error", "message") if body.get(name)), "")
    return f" ({str(text)[:300]})" if text else ""
