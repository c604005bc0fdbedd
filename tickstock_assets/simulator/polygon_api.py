"""Polygon (now Massive): keys, errors, cursors and dates as its REST interface has them.

Elsewhere: aggregates (polygon_bars.py), trades (polygon_trades.py), reference (polygon_reference.py).

Source: the vendor's documentation of its REST interface for stocks, and error bodies that its users have published.
"""

import base64
import binascii
import itertools
import uuid
from collections.abc import Mapping, Sequence
from datetime import date
from typing import Any
from urllib.parse import parse_qsl, urlencode

from starlette.requests import Request

from tickstock_assets.simulator.asks import Answer, Ask, Reason, Refused, Vendor, json_answer
from tickstock_assets.simulator.plans import Plan

PRICING = "Please upgrade your plan at https://massive.com/pricing"
_NUMBERS = itertools.count(1)


def request_id() -> str:
    """Return a new 32-digit number of a request."""
    return uuid.UUID(int=next(_NUMBERS)).hex


def key_of(request: Request) -> str | None:
    """Return the key of a request: of the header, or of the query."""
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    return token if scheme.lower() == "bearer" and token else request.query_params.get("apiKey")


def error(status: int, message: str) -> Answer:
    """Return an error as the vendor writes it."""
    return json_answer({"status": "ERROR", "request_id": request_id(), "error": message}, status)


def not_entitled(message: str) -> Refused:
    """Return the refusal of what the plan does not include."""
    body = {"status": "NOT_AUTHORIZED", "request_id": request_id(), "message": f"{message} {PRICING}"}
    return Refused(json_answer(body, 403))


def not_found(message: str) -> Refused:
    """Return the refusal of what does not exist."""
    return Refused(json_answer({"status": "NOT_FOUND", "request_id": request_id(), "message": message}, 404))


def refusal(reason: Reason, _key: str | None) -> Answer:
    """Return what is said instead of an answer."""
    match reason:
        case Reason.UNKNOWN_KEY:
            return error(401, "Unknown API Key")
        case Reason.SERVER_ERROR:
            return Answer(503, b"<html><body><h1>503 Service Unavailable</h1></body></html>", "text/html")
        case Reason.ERROR_IN_200:
            return error(200, "An internal error has occurred, please try again later.")
        case _:
            return error(
                429,
                "You've exceeded the maximum requests per minute, please wait or upgrade your subscription to continue. "
                "https://massive.com/pricing",
            )


def check_depth(plan: Plan, first: date | None) -> None:
    """Refuse a window that begins where the plan has no history."""
    if not plan.covers(first):
        raise not_entitled("Your plan doesn't include this data timeframe.")


def listing(request: Request, route: str) -> Ask:
    """Return the ask of an endpoint whose pages are followed by a cursor."""
    parameters = {name: value for name, value in request.query_params.items() if name != "apiKey"}
    offset, page = 0, 1
    if "cursor" in parameters:
        parameters = cursor_contents(parameters["cursor"])
        offset, page = int(parameters.pop("offset")), int(parameters.pop("page"))
    symbol = str(request.path_params.get("ticker") or parameters.get("ticker", ""))
    return Ask(
        Vendor.POLYGON,
        route,
        symbol=symbol,
        offset=offset,
        page=page,
        parameters=parameters,
        base_url=f"{request.url.scheme}://{request.url.netloc}{request.url.path}",
    )


def next_url(ask: Ask, offset: int) -> str:
    """Return the address of the next page; the key is not in it."""
    return f"{ask.base_url}?cursor={cursor(dict(ask.parameters), offset, ask.page + 1)}"


def cursor(parameters: Mapping[str, str], offset: int, page: int) -> str:
    """Return a cursor that holds parameters and place."""
    text = urlencode({**parameters, "offset": offset, "page": page})
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


def cursor_contents(text: str) -> dict[str, str]:
    """Return what a cursor holds."""
    try:
        contents = dict(parse_qsl(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)).decode()))
        int(contents["offset"]), int(contents["page"])
    except (binascii.Error, UnicodeDecodeError, KeyError, ValueError):
        raise Refused(error(400, "invalid cursor")) from None
    return contents


def limit_of(ask: Ask, default: int, most: int) -> int:
    """Return how many rows a page has."""
    text = ask.parameters.get("limit", str(default))
    if not text.isdigit() or not 1 <= int(text) <= most:
        raise Refused(error(400, f"'limit' must be a number from 1 to {most}"))
    return int(text)


def paged(ask: Ask, rows: Sequence[Mapping[str, Any]], limit: int, **extra: Any) -> Answer:
    """Return one page of rows, with the address of the next when there are more."""
    page = rows[ask.offset : ask.offset + limit]
    body: dict[str, Any] = {"results": list(page), "status": "OK", "request_id": request_id(), **extra}
    if "count" in body:
        body["count"] = len(page)
    if ask.offset + limit < len(rows):
        body["next_url"] = next_url(ask, ask.offset + limit)
    return json_answer(body)


def day_of(text: str, name: str) -> date:
    """Return a day from its text; refuse any other text."""
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise Refused(error(400, f"Could not parse the time parameter: '{name}'. Use YYYY-MM-DD.")) from None


def selected(value: Any, ask: Ask, name: str) -> bool:
    """Return whether a value fits all filters of a name: equal, any_of, gt, gte, lt, lte."""
    wanted = ask.parameters
    text = str(value)
    return (
        wanted.get(name, text) == text
        and (f"{name}.any_of" not in wanted or text in wanted[f"{name}.any_of"].split(","))
        and (f"{name}.gt" not in wanted or text > wanted[f"{name}.gt"])
        and (f"{name}.gte" not in wanted or text >= wanted[f"{name}.gte"])
        and (f"{name}.lt" not in wanted or text < wanted[f"{name}.lt"])
        and (f"{name}.lte" not in wanted or text <= wanted[f"{name}.lte"])
    )
