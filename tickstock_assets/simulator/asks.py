"""What a client asked, and what it is told, in no vendor's format."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import date
from enum import StrEnum
from typing import Any, Literal

from starlette.requests import Request

type Timeframe = Literal["1m", "1d"]


class Vendor(StrEnum):
    """Whose interface a call uses; flat files have keys and plans of their own."""

    POLYGON = "polygon"
    ALPHA_VANTAGE = "alpha_vantage"
    FLAT_FILES = "flat_files"


class Reason(StrEnum):
    """Why a call is refused before anyone looks at what it asks for."""

    UNKNOWN_KEY = "unknown_key"
    MINUTE_BUDGET = "minute_budget"
    DAY_BUDGET = "day_budget"
    TOO_MANY_REQUESTS = "too_many_requests"
    SERVER_ERROR = "server_error"
    ERROR_IN_200 = "error_in_200"


@dataclass(frozen=True)
class Ask:
    """One request, understood.

    Attributes:
        vendor: whose interface.
        route: name of the endpoint, such as aggregates.
        symbol: the ticker asked for, empty where the whole market is.
        first: first day of the window, None where there is none.
        last: last day.
        offset: rows that earlier pages have answered.
        page: number of this page, from 1.
        parameters: the query, with a cursor's contents in place of the cursor.
        base_url: scheme, host and port as the client wrote them.
        timeframe: of routes that answer bars.
    """

    vendor: Vendor
    route: str
    symbol: str = ""
    first: date | None = None
    last: date | None = None
    offset: int = 0
    page: int = 1
    parameters: Mapping[str, str] = field(default_factory=dict)
    base_url: str = ""
    timeframe: Timeframe | None = None

    @property
    def window(self) -> str:
        """The days asked for, as text; the identity of what is asked, apart from whose it is."""
        return f"{self.first or ''}..{self.last or ''}+{self.offset}"

    @property
    def identity(self) -> str:
        """The same text whenever the same is asked."""
        return f"{self.vendor}|{self.route}|{self.symbol}|{self.window}"

    def flag(self, name: str, default: bool) -> bool:
        """Return a parameter that is true or false."""
        return self.parameters.get(name, str(default)).lower() == "true"


@dataclass(frozen=True)
class Answer:
    """What goes back.

    Attributes:
        status: of HTTP.
        body: as sent.
        media_type: of the body.
        headers: besides length and type.
    """

    status: int
    body: bytes
    media_type: str = "application/json"
    headers: Mapping[str, str] = field(default_factory=dict)


class Refused(Exception):  # noqa: N818 an answer, not an error of ours
    """The vendor will not answer what was asked; carries what it says instead."""

    def __init__(self, answer: Answer) -> None:
        super().__init__(answer.status)
        self.answer = answer


@dataclass(frozen=True)
class Endpoint:
    """One address of a vendor.

    Attributes:
        path: with Starlette's placeholders.
        ask: reads a request; raises Refused when it makes no sense.
        answer: answers what was asked; raises Refused when the plan or the market does not have it.
    """

    path: str
    ask: Callable[[Request], Ask]
    answer: Callable[[Ask], Answer]


def json_answer(payload: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Answer:
    """Return a payload as JSON without blanks."""
    body = json.dumps(payload, separators=(",", ":"), allow_nan=False).encode()
    return Answer(status, body, headers=headers or {})
