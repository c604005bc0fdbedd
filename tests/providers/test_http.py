"""The transport over real HTTP: what it tries again, how long it waits, what it raises, and that it never shows the key."""

import contextlib
import gzip
import logging
import traceback
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from pydantic import SecretStr

from tests.providers.scripted_server import Asked, Reply, serving
from tickstock_assets.domain.errors import (
    BadKeyError,
    NotEntitledError,
    PermanentProviderError,
    QuotaExhaustedError,
    TransientProviderError,
    UnknownSymbolError,
)
from tickstock_assets.providers.http import Answer, Patience, Transport, TryAgainError
from tickstock_assets.providers.retry_after import seconds_to_wait

NOW = datetime(2026, 3, 6, 12, tzinfo=UTC)
# With characters that a URL escapes in three ways.
KEY = "s3cr et/Kéy+=&x"
GOOD = Reply(b'{"good": true}')
NO_JITTER = Patience(jitter_seconds=0)
# For a vendor that does not finish only: on a busy machine a good answer takes longer.
QUICK = Patience(read_seconds=0.2, answer_seconds=0.2, tries=2, jitter_seconds=0)


class CountingQuota:
    """Counts the calls, and how many were under way at once."""

    def __init__(self, calls: int = 1000) -> None:
        self.left = calls
        self.calls = 0
        self.under_way = 0
        self.blocks: list[datetime] = []

    @contextlib.contextmanager
    def call(self) -> Iterator[None]:
        if not self.left:
            raise QuotaExhaustedError("the day's calls are used up", NOW + timedelta(hours=9))
        self.left -= 1
        self.calls += 1
        self.under_way += 1
        try:
            yield
        finally:
            self.under_way -= 1

    def blocked(self, until: datetime) -> None:
        self.blocks.append(until)


class Asking:
    """A transport whose waits are written down instead of slept."""

    def __init__(self, **options: Any) -> None:
        self.waits: list[float] = []
        self.quota: CountingQuota = options.pop("quota", CountingQuota())
        self.transport = Transport(
            "vendor",
            SecretStr(KEY),
            quota=self.quota,
            sleep=self.waits.append,
            now=lambda: NOW,
            **{"patience": NO_JITTER} | options,
        )

    def get(self, url: str, params: dict[str, Any] | None = None) -> Answer:
        return self.transport.get(url, params)


def test_an_answer_has_status_headers_bytes_and_the_decoded_body() -> None:
    with serving(Reply(b'{"n": 1.50}', headers={"X-Request-Id": "r1"})) as server:
        answer = Asking().get(f"{server.url}/a/b?c=1", {"d": "e f", "limit": 5})
    assert (answer.status, answer.data, answer.body, answer.path) == (200, b'{"n": 1.50}', {"n": 1.5}, "/a/b")
    assert answer.headers["x-request-id"] == "r1"
    assert server.asked[0].query == {"c": "1", "d": "e f", "limit": "5"}


def test_a_compressed_answer_is_unpacked() -> None:
    body = b'{"bars": [' + b"1," * 200_000 + b"1]}"
    with serving(Reply(gzip.compress(body), headers={"Content-Encoding": "gzip"})) as server:
        assert Asking().get(server.url).data == body


def test_it_stands_in_for_the_pool_manager_of_a_vendor_client() -> None:
    with serving(GOOD) as server:
        transport = Asking().transport
        answer = transport.request("GET", server.url + "/x", fields={"limit": 2}, headers={"Authorization": "Bearer k"})
        assert answer.body == {"good": True}
        assert (server.asked[0].query, server.asked[0].headers["Authorization"]) == ({"limit": "2"}, "Bearer k")
        with pytest.raises(PermanentProviderError, match="expected a GET request, found POST"):
            transport.request("POST", server.url)


BAD_TRIES = {
    "too many requests": Reply(b'{"status":"ERROR"}', 429),
    "internal error": Reply(b"<html>", 500),
    "bad gateway": Reply(b"", 502),
    "unavailable": Reply(b"", 503),
    "gateway timeout": Reply(b"", 504),
    "request timeout": Reply(b"", 408),
    "a hung-up connection": Reply(hang_up=True),
    "a body shorter than its length": Reply(b'{"results": []}', cut_after=9),
    "a valid body shorter than its length": Reply(b"{}" + b" " * 10, cut_after=2),
    "a chunk that is cut": Reply(b'{"results": []}', cut_after=9, chunked=True),
    "chunks without an end": Reply(b'{"results": []}', cut_after=15, chunked=True),
    "truncated JSON of the promised length": Reply(b'{"results": [1, 2'),
    "an empty body": Reply(b""),
    "bytes that are no text": Reply(b"\xff\xfe{}"),
    "something else than gzip": Reply(b"{}", headers={"Content-Encoding": "gzip"}),
    "half of a gzip file": Reply(
        gzip.compress(b'{"a": "%s"}' % bytes(range(32, 127)))[:40], headers={"Content-Encoding": "gzip"}
    ),
}


@pytest.mark.parametrize("bad", BAD_TRIES.values(), ids=BAD_TRIES.keys())
def test_after_a_bad_try_it_asks_again_and_each_try_counts(bad: Reply) -> None:
    asking = Asking()
    with serving(bad, bad, GOOD) as server:
        assert asking.get(server.url).body == {"good": True}
    assert (len(server.asked), asking.quota.calls, asking.quota.under_way) == (3, 3, 0)
    assert asking.waits == [2, 4]


def test_tries_are_bounded_and_the_waits_outlast_a_minute() -> None:
    asking = Asking()
    with (
        serving(Reply(b'{"error": "upstream is down"}', 503)) as server,
        pytest.raises(TransientProviderError) as caught,
    ):
        asking.get(f"{server.url}/v2/x", {"a": 1})
    assert str(caught.value) == (
        f"vendor: {server.url}/v2/x?a=1: expected an answer within 6 tries, "
        "found HTTP 503 (upstream is down); try again later"
    )
    assert asking.waits == [2, 4, 8, 16, 32]
    assert len(server.asked) == 6


def test_jitter_is_added_to_every_wait() -> None:
    asking = Asking(patience=Patience(jitter_seconds=0.5))
    with serving(Reply(b"", 500), Reply(b"", 429, {"Retry-After": "7"}), GOOD) as server:
        asking.get(server.url)
    assert 2 <= asking.waits[0] <= 2.5
    assert 7 <= asking.waits[1] <= 7.5


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("17", 17),
        ("Fri, 06 Mar 2026 12:00:17 GMT", 17),
        ("Fri, 06 Mar 2026 11:59:00 GMT", 0),
        ("soon", None),
        (None, None),
    ],
)
def test_retry_after_is_seconds_or_a_date(header: str | None, seconds: float | None) -> None:
    assert seconds_to_wait(header, NOW) == seconds


@pytest.mark.parametrize("status", [429, 503])
def test_retry_after_wins_over_our_own_waits_and_is_told_to_the_quota(status: int) -> None:
    asking = Asking()
    with serving(Reply(b"", status, {"Retry-After": "17"}), GOOD) as server:
        asking.get(server.url)
    assert asking.waits == [17]
    assert asking.quota.blocks == [NOW + timedelta(seconds=17)]


def test_a_long_retry_after_is_not_slept_but_told() -> None:
    asking = Asking()
    until = "no call before 2026-03-06 13:00:00 UTC"
    limited = Reply(b"", 429, {"Retry-After": "3600"})
    with serving(limited) as server, pytest.raises(QuotaExhaustedError, match=until) as caught:
        asking.get(server.url)
    assert caught.value.until == NOW + timedelta(hours=1)
    assert asking.quota.blocks == [caught.value.until]
    assert (asking.waits, len(server.asked)) == ([], 1)


def test_a_used_up_budget_ends_the_tries() -> None:
    asking = Asking(quota=CountingQuota(calls=2))
    with serving(Reply(b"", 500)) as server, pytest.raises(QuotaExhaustedError, match="used up"):
        asking.get(server.url)
    assert len(server.asked) == 2


REFUSALS = {400: PermanentProviderError, 401: BadKeyError, 403: NotEntitledError, 404: UnknownSymbolError} | {
    301: PermanentProviderError,
    422: PermanentProviderError,
    501: PermanentProviderError,
}


@pytest.mark.parametrize(("status", "kind"), REFUSALS.items())
def test_a_refusal_is_not_tried_again(status: int, kind: type[Exception]) -> None:
    asking = Asking()
    refusal = Reply(b'{"message": "no such thing"}', status, {"Location": "/elsewhere"})
    message = rf"HTTP {status} \(no such thing\)"
    with serving(refusal) as server, pytest.raises(kind, match=message) as caught:
        asking.get(f"{server.url}/x")
    assert type(caught.value) is kind
    assert (asking.waits, len(server.asked)) == ([], 1)


def test_the_owner_judges_an_answer_within_the_retries() -> None:
    def judge(answer: Answer) -> None:
        if "Note" in answer.body:
            raise TryAgainError(answer.body["Note"], retry_after_seconds=5)
        if "Information" in answer.body:
            raise QuotaExhaustedError(answer.body["Information"], NOW + timedelta(hours=4))
        if "Error Message" in answer.body:
            raise UnknownSymbolError(answer.body["Error Message"])

    asking = Asking(judge=judge)
    with serving(Reply(b'{"Note": "slow down"}'), GOOD) as server:
        assert asking.get(server.url).body == {"good": True}
    assert asking.waits == [5]
    assert asking.quota.blocks == [NOW + timedelta(seconds=5)]
    with serving(Reply(b'{"Information": "25 a day"}')) as server, pytest.raises(QuotaExhaustedError, match="25 a day"):
        asking.get(server.url)
    assert asking.quota.blocks[-1] == NOW + timedelta(hours=4)
    unknown = Reply(b'{"Error Message": "no such symbol"}')
    with serving(unknown) as server, pytest.raises(UnknownSymbolError, match="no such symbol"):
        asking.get(server.url)
    assert len(server.asked) == 1


@pytest.mark.parametrize(
    ("reply", "found"),
    [(Reply(stall=True), "ReadTimeoutError"), (Reply(drip=True), "not complete after 0.2 s")],
    ids=["silent", "dripping"],
)
def test_a_vendor_that_does_not_finish_is_given_up(reply: Reply, found: str) -> None:
    with serving(reply) as server:
        with pytest.raises(TransientProviderError, match=found):
            Asking(patience=QUICK).get(server.url)
        assert server.times_asked(2) == 2


def test_nobody_listening_is_transient() -> None:
    with serving(GOOD) as server:
        url = server.url
    with pytest.raises(TransientProviderError, match="Connection refused"):
        Asking().get(url)


def test_an_address_that_is_none_is_told_at_once() -> None:
    asking = Asking()
    with pytest.raises(PermanentProviderError, match="expected an address such as https://host"):
        asking.get("https:///v2")
    assert asking.waits == []


def test_ctrl_c_ends_a_wait() -> None:
    def interrupted(_: float) -> None:
        raise KeyboardInterrupt

    with serving(Reply(b"", 500)) as server, pytest.raises(KeyboardInterrupt):
        Transport("vendor", KEY, sleep=interrupted).get(server.url)
    assert len(server.asked) == 1


def echo(asked: Asked) -> Reply:
    """Answer with the key in the body, as vendors do."""
    return Reply(f'{{"message": "key {asked.query["apikey"]} is not known"}}'.encode(), int(asked.path[1:]))


LEAKS = {
    "refused": (echo, "/401"),
    "bad request": (echo, "/400"),
    "tries used up": (echo, "/500"),
    "broken": (Reply(b'{"a": "' + KEY.encode()), "/"),
    "cut": (Reply(b"{}      ", cut_after=2), "/"),
    "silent": (Reply(stall=True), "/silent"),
    "judged": (echo, "/200"),
    "told to wait": (Reply(b"", 429, {"Retry-After": "9999"}), "/"),
}


@pytest.mark.parametrize(("reply", "path"), LEAKS.values(), ids=LEAKS.keys())
def test_the_key_is_in_no_message_no_traceback_no_cause_and_no_log(
    reply: Reply, path: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)

    def judge(answer: Answer) -> None:
        if answer.path == "/200":
            raise BadKeyError(answer.body["message"])

    asking = Asking(patience=QUICK if path == "/silent" else NO_JITTER, judge=judge)
    with serving(reply) as server:
        try:
            asking.get(server.url + path, {"apikey": KEY, "symbol": "AAPL"})
        except (PermanentProviderError, TransientProviderError, QuotaExhaustedError) as error:
            texts = [str(error), repr(error), traceback.format_exc(), caplog.text, repr(asking.transport)]
            cause: BaseException | None = error
            while cause := cause.__cause__ or cause.__context__:
                texts += [str(cause), repr(cause.args), repr(vars(cause))]
        else:
            pytest.fail("expected an error")
        assert server.times_asked(1)
        assert server.asked[0].query["apikey"] == KEY
    assert caplog.records
    assert not leaked("\n".join(texts))


def test_the_key_is_blacked_out_of_what_urllib3_logs_of_a_good_request(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    with serving(GOOD) as server:
        answer = Asking().get(server.url + "/query", {"apikey": KEY})
    assert "=[key]" in caplog.text
    assert not leaked(caplog.text + repr(answer))


def leaked(text: str) -> bool:
    """Whether a text holds the key: plain, or escaped by hand after RFC 3986 and the HTML form rules."""
    escaped = ("s3cr%20et%2FK%C3%A9y%2B%3D%26x", "s3cr+et%2FK%C3%A9y%2B%3D%26x", "s3cr%20et/K%C3%A9y%2B%3D%26x")
    return any(form.lower() in text.lower() for form in (KEY, *escaped))
