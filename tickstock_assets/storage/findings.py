"""Rows of findings: their ids and what belongs beside a detection."""

import json
import uuid
from collections.abc import Sequence

import pandas as pd

from tickstock_assets.storage.ledger import NAMESPACE


def content_ids(kind: str, frame: pd.DataFrame, key: Sequence[str]) -> list[str]:
    """Return one uuid5 a row, made from the row's key, so that the same finding has the same id everywhere."""
    columns = [_as_texts(frame[name]) for name in key]
    return [str(uuid.uuid5(NAMESPACE, "|".join([kind, *values]))) for values in zip(*columns, strict=True)]


def _as_texts(column: pd.Series) -> list[str]:
    """Return a column's values as texts; each that stands there many times is made into one once."""
    codes, values = pd.factorize(column, use_na_sentinel=False)
    texts: list[str] = pd.Series(values).astype(str).to_numpy(object)[codes].tolist()
    return texts


def as_pattern_rows(detections: pd.DataFrame, features: pd.DataFrame, timeframe: str) -> pd.DataFrame:
    """Return detections as rows of `patterns`: with id, timeframe and the ratios of the bar that completes each."""
    # `json.dumps` makes an encoder each time that it is asked for sorted keys.
    as_json = json.JSONEncoder(sort_keys=True).encode
    ratios = features[["symbol", "timestamp", "volume_ratio", "spread_ratio"]]
    rows = detections.assign(timeframe=timeframe).merge(ratios, how="left", on=["symbol", "timestamp"])
    rows["metadata"] = list(map(as_json, rows["metadata"]))
    rows["id"] = content_ids("pattern", rows, ["symbol", "timeframe", "timestamp", "pattern", "variant"])
    return rows
