"""What an answer of Alpha Vantage means: it says everything with HTTP 200, also that there is nothing.

Elsewhere: asking (alpha_vantage.py), the rows of a good answer (alpha_vantage_rows.py), trying again (http.py).
"""

import re
from collections.abc import Mapping
from datetime import datetime
from typing import Any, NoReturn
from urllib.parse import parse_qsl, urlsplit

from tickstock_assets.domain.errors import (
    BadKeyError,
    NotEntitledError,
    PermanentProviderError,
    QuotaExhaustedError,
    UnknownSymbolError,
)
from tickstock_assets.domain.vendor_days import vendor_day
from tickstock_assets.providers.alpha_vantage_rows import LISTING_FIELDS
from tickstock_assets.providers.http import OK, Answer, TryAgainError

LISTINGS = "LISTING_STATUS"
# Where the rows of each function stand.
ROWS = {
    "TIME_SERIES_DAILY": "Time Series (Daily)",
    "TIME_SERIES_INTRADAY": "Time Series (1min)",
    "SPLITS": "data",
    "DIVIDENDS": "data",
}
META = "Meta Data"
# The last field of every line of a list of symbols.
LISTING_ENDS = (",Active", ",Delisted")
NOTICES = ("Error Message", "Information", "Note")
EASTERN_NAMES = {"US/Eastern", "America/New_York"}

BAD_KEY = re.compile(r"api ?key.{0,20}(invalid|missing)|invalid.{0,10}api ?key", re.IGNORECASE)
PREMIUM = re.compile(r"is a premium (endpoint|feature)", re.IGNORECASE)
# These sentences also advertise what a premium plan lifts, the limit of the day and premium endpoints.
TOO_FAST = re.compile(r"per second|spreading out|burst", re.IGNORECASE)
TOO_MANY_A_MINUTE = re.compile(r"per minute|call frequency", re.IGNORECASE)
TOO_MANY_A_DAY = re.compile(r"per day|daily (rate )?limit", re.IGNORECASE)
SECONDS_OF_A_BURST = 2.0
SECONDS_OF_A_MINUTE = 60.0


def judge(answer: Answer, now: datetime, zone: str) -> None:
    """Raise what an answer means, or return when it is what was asked for.

    Args:
        answer: its URL says what was asked.
        now: UTC.
        zone: time zone in which the vendor's day begins.

    Raises:
        TryAgainError: asked too fast; the rows are missing, another symbol's, or fewer than asked for.
        QuotaExhaustedError: the day's calls are used up.
        BadKeyError, NotEntitledError, UnknownSymbolError, PermanentProviderError: asking again will not help.
    """
    if answer.status != OK:
        return
    asked = dict(parse_qsl(urlsplit(answer.url).query))
    function, body = asked.get("function", ""), answer.body
    if isinstance(body, dict):
        _heed_notices(body, asked, now, zone)
    if function == LISTINGS:
        _expect_listings(body)
    else:
        _expect_rows(body, asked, ROWS[function])


def _heed_notices(body: Mapping[str, Any], asked: Mapping[str, str], now: datetime, zone: str) -> None:
    for name in NOTICES:
        if text := body.get(name):
            _heed(str(text), asked, now, zone)
            if name == "Error Message":
                _refuse(str(text), asked)
            if ROWS.get(asked.get("function", "")) not in body:
                raise TryAgainError(f"it says only: {text}")


def _heed(text: str, asked: Mapping[str, str], now: datetime, zone: str) -> None:
    """Raise what a notice asks for; nothing when it is of none of the known kinds."""
    # What is understood is said in our words: theirs are an advertisement, and repeat the key.
    if BAD_KEY.search(text):
        raise BadKeyError("expected a valid key, found one that is refused; correct it")
    if premium := PREMIUM.search(text):
        raise NotEntitledError(f"{_subject(asked)}: expected it in the plan of this key, found that it {premium[0]}")
    if TOO_FAST.search(text):
        raise TryAgainError("it was asked too fast", SECONDS_OF_A_BURST)
    if TOO_MANY_A_MINUTE.search(text):
        raise TryAgainError("it was asked more often a minute than the plan allows", SECONDS_OF_A_MINUTE)
    if TOO_MANY_A_DAY.search(text):
        until = vendor_day(now, zone).end
        raise QuotaExhaustedError(
            f"alpha_vantage: the day's calls are used up; continues at {until:%Y-%m-%d %H:%M} UTC", until
        )


def _refuse(text: str, asked: Mapping[str, str]) -> NoReturn:
    if "symbol" in asked and "invalid api call" in text.lower():
        # All other parameters are ours and right, so it is the symbol; or, by month, a time at which it had no bars.
        during = f", or none with bars in {asked['month']}" if "month" in asked else ""
        raise UnknownSymbolError(f"expected a symbol that Alpha Vantage has, found {asked['symbol']!r}{during}")
    raise PermanentProviderError(f"{_subject(asked)}: {text}")


def _expect_listings(body: Any) -> None:
    header = body.partition("\n")[0].strip() if isinstance(body, str) else sorted(body)
    if header != ",".join(LISTING_FIELDS):
        raise TryAgainError(f"expected a list of symbols with the header {','.join(LISTING_FIELDS)}, found {header!r}")
    last = body.rstrip().rsplit("\n", 1)[-1]
    if last != header and not last.endswith(LISTING_ENDS):
        raise TryAgainError(f"the list of symbols is cut short, its last line is {last!r}")


def _expect_rows(body: Any, asked: Mapping[str, str], name: str) -> None:
    if not isinstance(body, dict):
        raise TryAgainError(f"expected a JSON object with {name!r}, found {str(body)[:80]!r}")
    if name == "data" and not body:
        # Of a company that it does not know it says {}, without a word.
        raise UnknownSymbolError(f"expected a symbol that Alpha Vantage has, found {asked['symbol']!r}")
    if not isinstance(body.get(name), list if name == "data" else dict):
        raise TryAgainError(f"expected {name!r} in the answer, found {', '.join(sorted(body)) or 'nothing'}")
    if name == "data":
        _expect_symbol(body.get("symbol"), asked["symbol"])
        return
    # The numbers before the names differ from function to function.
    meta = {str(key).partition(". ")[2]: value for key, value in dict(body.get(META) or {}).items()}
    _expect_symbol(meta.get("Symbol"), asked["symbol"])
    if asked.get("outputsize") == "full" and str(meta.get("Output Size", "")).lower() == "compact":
        raise TryAgainError("expected the full series, found a compact one")
    if meta.get("Time Zone") not in EASTERN_NAMES:
        raise PermanentProviderError(f"{_subject(asked)}: expected times of US/Eastern, found {meta.get('Time Zone')}")


def _expect_symbol(found: Any, asked: str) -> None:
    if str(found).upper() != asked.upper():
        raise TryAgainError(f"asked for {asked}, got the rows of {found}")


def _subject(asked: Mapping[str, str]) -> str:
    return " ".join(asked[name] for name in ("function", "symbol", "month") if name in asked)
