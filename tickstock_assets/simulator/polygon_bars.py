"""Polygon's aggregates: bars of one ticker in a window, and of the whole market on one day."""

import json
from collections.abc import Sequence
from dataclasses import replace
from datetime import date
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from starlette.requests import Request

from tickstock_assets.simulator.asks import Answer, Ask, Endpoint, Refused, Timeframe
from tickstock_assets.simulator.bar_service import BarService, Parts, part_of
from tickstock_assets.simulator.bars import NEW_YORK, Bars, Row, midnight
from tickstock_assets.simulator.plans import Plan
from tickstock_assets.simulator.polygon_api import (
    check_depth,
    day_of,
    error,
    limit_of,
    listing,
    next_url,
    not_entitled,
    request_id,
)

TIMESPANS: dict[str, Timeframe] = {"minute": "1m", "day": "1d"}
DEFAULT_LIMIT, MOST_AGGREGATES = 5_000, 50_000
FIELDS = {"v": "volume", "vw": "vwap", "o": "open", "c": "close", "h": "high", "l": "low"}
MILLISECONDS_A_DAY = 86_400_000


class PolygonBars:
    """Answers aggregates."""

    def __init__(self, service: BarService, plan: Plan) -> None:
        self.service, self.market, self.plan = service, service.market, plan

    def endpoints(self) -> list[Endpoint]:
        """Return the addresses served."""
        return [
            Endpoint(
                "/v2/aggs/ticker/{ticker}/range/{multiplier:int}/{timespan}/{start}/{end}",
                aggregates_ask,
                self.aggregates,
            ),
            Endpoint("/v2/aggs/grouped/locale/us/market/stocks/{day}", grouped_ask, self.grouped),
        ]

    def aggregates(self, ask: Ask) -> Answer:
        """Answer a window of one ticker, a page of it when there is more than the limit."""
        if ask.timeframe == "1m" and not self.plan.minutes:
            raise not_entitled("You are not entitled to this data.")
        check_depth(self.plan, ask.first)
        limit = limit_of(ask, DEFAULT_LIMIT, MOST_AGGREGATES)
        descending = ask.parameters.get("sort", "asc") == "desc"
        adjusted = ask.flag("adjusted", default=True)
        whole = self._window(ask, adjusted)
        count = sum(after - first for _, first, after in whole)
        left = max(count - ask.offset - limit, 0)
        page = (
            part_of(whole, left, count - ask.offset) if descending else part_of(whole, ask.offset, ask.offset + limit)
        )
        rows = self.service.answered(ask, page, descending=descending)
        if rows is None and descending:
            rows = [row for bars, first, after in page for row in bars.cut(first, after).rows()][::-1]
        body: dict[str, Any] = {
            "ticker": rows[0]["symbol"] if rows else ask.symbol,
            "queryCount": self.service.notes.rows,
            "resultsCount": self.service.notes.rows,
            "adjusted": adjusted,
            "status": "DELAYED" if self.plan.delayed else "OK",
            "request_id": request_id(),
        }
        if page:
            body["count"] = self.service.notes.rows
        if left:
            body["next_url"] = next_url(ask, ask.offset + limit)
        return with_results(body, _pieces(page, rows, grouped=False))

    def grouped(self, ask: Ask) -> Answer:
        """Answer the whole market on one day."""
        check_depth(self.plan, ask.first)
        adjusted = ask.flag("adjusted", default=True)
        assert ask.first is not None  # noqa: S101 it is in the path
        parts = self.market.day("1d", ask.first, adjusted=adjusted)
        rows = self.service.answered(ask, parts)
        count = self.service.notes.rows
        body = {
            "queryCount": count,
            "resultsCount": count,
            "adjusted": adjusted,
            "status": "DELAYED" if self.plan.delayed else "OK",
            "request_id": request_id(),
        }
        return with_results(body | ({"count": count} if parts else {}), _pieces(parts, rows, grouped=True))

    def _window(self, ask: Ask, adjusted: bool) -> Parts:
        assert ask.first is not None  # noqa: S101 both are in the path
        assert ask.last is not None  # noqa: S101
        assert ask.timeframe is not None  # noqa: S101
        from_ms, to_ms = int(ask.parameters["from_ms"]), int(ask.parameters["to_ms"])
        parts = self.market.window(ask.symbol, ask.timeframe, ask.first, ask.last, adjusted=adjusted)
        cuts = [(bars, *bars.positions(from_ms, to_ms)) for bars, _, _ in parts]
        return [(bars, first, after) for bars, first, after in cuts if first < after]


def aggregates_ask(request: Request) -> Ask:
    """Read what is asked of the aggregates of one ticker."""
    ask = listing(request, "aggregates")
    path = request.path_params
    if path["timespan"] not in TIMESPANS or path["multiplier"] != 1:
        raise Refused(error(400, "the simulator serves 1/minute and 1/day only"))
    first, from_ms = _moment(path["start"], "from", end=False)
    last, to_ms = _moment(path["end"], "to", end=True)
    if to_ms < from_ms:
        raise Refused(error(400, "The parameter 'to' cannot be a time that occurs before 'from'"))
    parameters = {**ask.parameters, "from_ms": str(from_ms), "to_ms": str(to_ms)}
    timeframe = TIMESPANS[path["timespan"]]
    route = "aggregates_day" if timeframe == "1d" else "aggregates_minute"
    return replace(ask, route=route, first=first, last=last, parameters=parameters, timeframe=timeframe)


def grouped_ask(request: Request) -> Ask:
    """Read what is asked of a day of the whole market."""
    day = day_of(request.path_params["day"], "date")
    return replace(listing(request, "grouped_daily"), first=day, last=day, timeframe="1d")


def _moment(text: str, name: str, *, end: bool) -> tuple[date, int]:
    """Return day and Unix milliseconds of a bound, which is a day or milliseconds."""
    if text.isdigit():
        return pd.Timestamp(int(text), unit="ms", tz=NEW_YORK).date(), int(text)
    day = day_of(text, name)
    return day, midnight(day) + (MILLISECONDS_A_DAY - 1 if end else 0)


def with_results(body: dict[str, Any], pieces: Sequence[bytes]) -> Answer:
    """Return an answer with encoded rows, or without the key `results` when there are none, as the vendor does it."""
    start = json.dumps(body, separators=(",", ":")).encode()
    if not pieces:
        return Answer(200, start)
    return Answer(200, b"".join([start[:-1], b',"results":[', b",".join(pieces), b"]}"]))


def _pieces(parts: Parts, rows: list[Row] | None, *, grouped: bool) -> list[bytes]:
    """Return encoded rows: those given, or else the parts' own, which are encoded only once."""
    name, encode = ("polygon_grouped", _encoded_with_ticker) if grouped else ("polygon", _encoded)
    if rows is None:
        return [bars.encoding(name, encode).text(first, after) for bars, first, after in parts]
    # Rows of several tickers keep their order, so each is encoded by itself.
    alone = [[row] for row in rows] if grouped else [rows] if rows else []
    return [encode(Bars.from_rows(some[0]["symbol"], some)).text(0, len(some)) for some in alone]


class EncodedRows:
    """Rows as JSON objects in one text, of which any slice can be had without copying row by row."""

    def __init__(self, rows: pa.Array) -> None:
        # Each row ends in a comma, so the text of a slice is one stretch of the buffer without its last byte.
        _, offsets, text = rows.buffers()
        self._offsets = np.frombuffer(offsets, np.int32, len(rows) + 1)
        self._text = memoryview(text) if text else memoryview(b"")

    def text(self, first: int, after: int) -> bytes:
        """Return the rows of a slice, separated by commas."""
        return bytes(self._text[self._offsets[first] : self._offsets[after] - 1])


def _encoded(bars: Bars) -> EncodedRows:
    return EncodedRows(_json_objects(bars, "{"))


def _encoded_with_ticker(bars: Bars) -> EncodedRows:
    return EncodedRows(_json_objects(bars, f'{{"T":{json.dumps(bars.symbol)},'))


def _json_objects(bars: Bars, start: str) -> pa.Array:
    """Return a JSON object and a comma for each bar; Arrow writes numbers as the shortest text that reads back the same."""
    text: list[Any] = [pa.array([start] * len(bars), pa.string())]
    for field, name in FIELDS.items():
        text += [f'"{field}":', pa.array(bars.columns[name]).cast(pa.string()), ","]
    text += ['"t":', pa.array(bars.start_ms).cast(pa.string()), ',"n":']
    text += [pa.array(bars.columns["trades_count"].astype(np.int64)).cast(pa.string()), "},", ""]
    return pc.binary_join_element_wise(*text)
