"""Dashboard and rules name metrics and labels that the exporter has, and every metric of it is on the dashboard."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client.core import CounterMetricFamily, Metric

from tests.defs.conftest import OpenProject
from tickstock_assets.metrics.exporter import Exporter
from tickstock_assets.settings import settings

pytestmark = pytest.mark.tiers("embedded")

PROJECT = Path(__file__).parents[2]
DASHBOARD = json.loads((PROJECT / "ops" / "grafana" / "tickstock.json").read_text(encoding="utf-8"))
RULES = yaml.safe_load((PROJECT / "ops" / "prometheus" / "alerts.yml").read_text(encoding="utf-8"))
SCRAPES = yaml.safe_load((PROJECT / "ops" / "prometheus" / "prometheus.yml").read_text(encoding="utf-8"))
# Of the target that was scraped, put there by Prometheus.
TARGET_LABELS = {"job", "instance"}


@pytest.fixture(scope="module")
def exported() -> dict[str, set[str]]:
    """The labels of every metric that the exporter has, by the name that queries use."""
    return {}


@pytest.fixture
def known(open_project: OpenProject, exported: dict[str, set[str]]) -> dict[str, set[str]]:
    if not exported:
        open_project(companies=1, calls_per_day=25)
        exporter = Exporter(settings(), wait_seconds=120)
        exported |= {_name(family): set(_labels(family)) for family in exporter.families()}
        exporter.close()
    return exported


def _name(family: Metric) -> str:
    return f"{family.name}_total" if isinstance(family, CounterMetricFamily) else family.name


def _labels(family: Metric) -> tuple[str, ...]:
    return family._labelnames  # type: ignore[attr-defined, no-any-return]


def panels() -> list[dict[str, Any]]:
    return [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]


def expressions() -> Iterator[tuple[str, str]]:
    """Yield every expression with the text that names its labels."""
    for panel in panels():
        for target in panel["targets"]:
            yield target["expr"], target["legendFormat"]
    for rule in RULES["groups"][0]["rules"]:
        yield rule["expr"], " ".join(rule["annotations"].values())


def metrics_in(expression: str) -> set[str]:
    return set(re.findall(r"\btickstock_\w+", expression))


def labels_in(expression: str, words: str) -> set[str]:
    """Return the labels that are selected, grouped by, or shown."""
    selected = re.findall(r"[{,]\s*(\w+)\s*[=!]~?", expression)
    grouped = [name.strip() for group in re.findall(r"\bby \(([^)]*)\)", expression) for name in group.split(",")]
    shown = re.findall(r"\{\{\s*(?:\$labels\.)?(\w+)\s*\}\}", words)
    return set(selected) | set(grouped) | set(shown)


def test_every_metric_that_is_named_is_exported_with_these_labels(known: dict[str, set[str]]) -> None:
    found = list(expressions())
    assert len(found) > 40
    for expression, words in found:
        named = metrics_in(expression)
        assert named, expression
        assert named <= known.keys(), expression
        labels = set().union(*(known[name] for name in named)) | TARGET_LABELS
        assert labels_in(expression, words) <= labels, expression


def test_every_metric_is_on_the_dashboard(known: dict[str, set[str]]) -> None:
    shown = {name for panel in panels() for target in panel["targets"] for name in metrics_in(target["expr"])}
    assert known.keys() == shown


def test_names_keep_prometheus_conventions(known: dict[str, set[str]]) -> None:
    for name, labels in known.items():
        assert re.fullmatch(r"tickstock_[a-z][a-z_]*[a-z]", name)
        assert not re.search(r"_(ms|milliseconds|minutes|kb|mb|gb|percent|count|sum|bucket)$", name)
        assert "timestamp" not in name or name.endswith("_timestamp_seconds")
        # A label of a target would be renamed when it is scraped.
        assert not labels & TARGET_LABELS, name


def test_names_and_labels_are_found_in_expressions() -> None:
    expression = 'sum by (class, timeframe) (tickstock_a{job=~"$job",x="y"}) / tickstock_b_total[5m]'
    assert metrics_in(expression) == {"tickstock_a", "tickstock_b_total"}
    assert labels_in(expression, "{{dataset}} of {{ $labels.name }}") == {
        "class", "timeframe", "job", "x", "dataset", "name",
    }  # fmt: skip


def test_the_dashboard_is_one_that_grafana_takes() -> None:
    assert DASHBOARD["schemaVersion"] >= 36
    assert (DASHBOARD["uid"], DASHBOARD["timezone"]) == ("tickstock", "utc")
    variables = {variable["name"]: variable["type"] for variable in DASHBOARD["templating"]["list"]}
    assert variables == {"datasource": "datasource", "job": "query"}
    ids = [panel["id"] for panel in DASHBOARD["panels"]]
    assert len(set(ids)) == len(ids)
    for panel in panels():
        assert panel["type"] in {"stat", "timeseries", "bargauge", "table"}
        assert panel["title"]
        assert panel["description"].endswith(".")
        assert panel["fieldConfig"]["defaults"]["unit"]
        assert [target["refId"] for target in panel["targets"]] == list("ABCDEF")[: len(panel["targets"])]
        for asked in (panel, *panel["targets"]):
            assert asked["datasource"] == {"type": "prometheus", "uid": "${datasource}"}


def test_panels_stand_beside_each_other() -> None:
    taken: set[tuple[int, int]] = set()
    for panel in DASHBOARD["panels"]:
        place = panel["gridPos"]
        assert 0 <= place["x"] < place["x"] + place["w"] <= 24
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & taken, panel["title"]
        taken |= cells


def test_rules_have_what_prometheus_wants_of_them() -> None:
    assert SCRAPES["rule_files"] == ["alerts.yml"]
    (scrape,) = SCRAPES["scrape_configs"]
    assert scrape["job_name"] == "tickstock"
    (group,) = RULES["groups"]
    names = [rule["alert"] for rule in group["rules"]]
    assert len(set(names)) == len(names)
    for rule in group["rules"]:
        assert set(rule) <= {"alert", "expr", "for", "labels", "annotations"}
        assert rule["labels"]["severity"] in {"warning", "critical"}
        assert set(rule["annotations"]) == {"summary", "description"}
        for opening, closing in ("()", "{}", "[]"):
            assert rule["expr"].count(opening) == rule["expr"].count(closing)
