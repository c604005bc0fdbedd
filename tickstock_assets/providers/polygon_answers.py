"""What makes an answer of Polygon good, and what its refusals mean. Judged inside the retries of `http.Transport`."""

import re
from typing import Any, NoReturn
from urllib.parse import unquote

from tickstock_assets.domain.errors import (
    BadKeyError,
    NotEntitledError,
    PermanentProviderError,
    UnknownSymbolError,
)
from tickstock_assets.providers.http import OK, Answer, TryAgainError

# DELAYED is a good answer of a plan whose data are fifteen minutes old.
GOOD_STATUS = {"OK", "DELAYED"}
TICKER_PATH = re.compile(
    r"/v2/aggs/ticker/(?P<aggs>[^/]+)/|/v3/trades/(?P<trades>[^/]+)|/v[3X]/reference/tickers/(?P<tickers>[^/]+)"
)
AGGREGATES_PATH = "/v2/aggs/"
LIST_PATH = "/v1/marketstatus/"


def judge(answer: Answer) -> None:
    """Raise where an answer is not what was asked for.

    Raises:
        TryAgainError: an error under status 200, another ticker, adjusted prices, rows missing, not an answer at all.
        BadKeyError, NotEntitledError, UnknownSymbolError, PermanentProviderError: the vendor refuses.
    """
    if answer.status != OK:
        _refuse(answer)
    if answer.path.startswith(LIST_PATH):
        if not isinstance(answer.body, list):
            raise TryAgainError(f"expected a list of market days, found {_shortened(answer.body)}")
        return
    body = answer.body
    if not isinstance(body, dict) or body.get("status") not in GOOD_STATUS:
        raise TryAgainError(f"expected an answer of status OK, found {_shortened(body)}")
    if answer.path.startswith(AGGREGATES_PATH):
        _judge_aggregates(answer, body)
    rows = body.get("results")
    if isinstance(rows, list) and not all(type(row) is dict for row in rows):
        raise TryAgainError("expected every result to be an object, found something else among them")


def _judge_aggregates(answer: Answer, body: dict[str, Any]) -> None:
    asked = TICKER_PATH.search(answer.path)
    ticker = unquote(asked["aggs"]) if asked and asked["aggs"] else None
    if ticker is not None and body.get("ticker") != ticker:
        raise TryAgainError(f"expected bars of {ticker}, found bars of {body.get('ticker')}")
    if body.get("adjusted") is True:
        raise TryAgainError("expected unadjusted bars, found adjusted ones")
    rows = body.get("results")
    if rows is not None and not isinstance(rows, list):
        raise TryAgainError(f"expected a list of bars, found {_shortened(rows)}")
    n_rows, promised = len(rows or []), body.get("resultsCount", 0)
    if promised != n_rows:
        raise TryAgainError(f"expected {promised} bars as resultsCount says, found {n_rows}")


def _refuse(answer: Answer) -> NoReturn:
    body = answer.body if isinstance(answer.body, dict) else {}
    said = str(body.get("error") or body.get("message") or f"HTTP {answer.status}")
    status = body.get("status")
    if answer.status == 401 or (answer.status == 403 and "api key" in said.lower()):
        raise BadKeyError(
            f"the key is refused ({said}); "
            "set TICKSTOCK_POLYGON_API_KEY (or POLYGON_API_KEY, MASSIVE_API_KEY) to a valid one"
        )
    if answer.status == 403 or status == "NOT_AUTHORIZED":
        raise NotEntitledError(f"the plan does not include this ({said})")
    if answer.status == 404 and (asked := TICKER_PATH.search(answer.path)):
        ticker = unquote(next(filter(None, asked.groups())))
        raise UnknownSymbolError(f"{ticker} is unknown there ({said})")
    if answer.status == 404:
        raise PermanentProviderError(f"nothing is at this address ({said}); correct the base URL")
    raise PermanentProviderError(f"the request is refused with HTTP {answer.status} ({said})")


def _shortened(body: Any) -> str:
    return repr(body)[:200]
