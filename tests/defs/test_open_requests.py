"""Open requests in the web UI: also those that wait are seen there, and cancelled."""

from datetime import UTC, date, datetime, timedelta
from typing import Any

import dagster as dg
import pytest

from tests.defs.conftest import OpenProject
from tests.defs.simulated import Project
from tickstock_assets.definitions import defs
from tickstock_assets.storage import backfill_requests

pytestmark = [
    pytest.mark.tiers("embedded"),
    # Dagster's own code calls it.
    pytest.mark.filterwarnings("ignore:InitResourceContext.dagster_run is deprecated"),
]

TOMORROW = datetime.now(UTC) + timedelta(days=1)


def enter(project: Project, symbols: list[str], *, not_before: datetime | None = None) -> str:
    with project.engine.begin() as connection:
        days = (date(2011, 3, 1), date(2012, 3, 30))
        return backfill_requests.enter(connection, symbols, "1d", *days, not_before=not_before)


def look(project: Project, *cancel: str) -> dg.ExecuteInProcessResult:
    return defs.resolve_job_def("backfill_requests").execute_in_process(
        {"ops": {"open_requests": {"config": {"cancel": list(cancel)}}}},
        instance=project.instance,
        raise_on_error=False,
    )


def metadata_of(result: dg.ExecuteInProcessResult) -> dict[str, Any]:
    assert result.success
    (output,) = [event for event in result.all_events if event.is_successful_output]
    return {name: value.value for name, value in output.step_output_data.metadata.items()}


def test_requests_that_wait_are_listed_and_cancelled(open_project: OpenProject) -> None:
    project = open_project(companies=7, calls_per_day=25)
    assert metadata_of(look(project)) == {"cancelled": 0, "open": 0, "requests": "none"}
    waits = enter(project, [f"S000{n}" for n in range(1, 8)], not_before=TOMORROW)
    other = enter(project, ["S0001"])
    found = metadata_of(look(project))
    assert found["open"] == 2
    rows = {str(row.data["id"]): row.data for row in found["requests"].records}
    assert rows[waits]["symbols"] == "S0001, S0002, S0003, S0004, S0005 and 2 more"
    assert (rows[waits]["status"], rows[waits]["not_before"]) == ("requested", f"{TOMORROW:%Y-%m-%d %H:%M} UTC")
    assert (rows[other]["start"], rows[other]["end"], rows[other]["not_before"]) == ("2011-03-01", "2012-03-30", "")

    result = look(project, waits[:13])
    assert metadata_of(result)["cancelled"] == 1
    assert project.rows("SELECT id::text, status, error FROM backfill_requests ORDER BY created_at") == [
        (waits, "cancelled", f"cancelled in the web UI by run {result.run_id[:8]}"),
        (other, "requested", None),
    ]
    assert project.rows("SELECT count(*) FROM audit_trail WHERE entity_id = (SELECT id::text FROM backfill_requests "
                        "WHERE status = 'cancelled') AND action = 'cancelled'") == [(1,)]  # fmt: skip


@pytest.mark.parametrize(
    ("named", "said"),
    [
        ("ffffffff-ffff", "expected how the id of one begins, found none; `tickstock backfill list` has them"),
        ("", "expected how the id of one begins, found none"),
    ],
)
def test_what_is_no_open_request_cancels_nothing(open_project: OpenProject, named: str, said: str) -> None:
    project = open_project(companies=1, calls_per_day=25)
    waits = enter(project, ["S0001"], not_before=TOMORROW)
    result = look(project, waits, named)
    assert not result.success
    (failure,) = [event.step_failure_data for event in result.all_events if event.is_step_failure]
    assert said in failure.user_failure_data.description  # type: ignore[union-attr, operator]
    assert failure.user_failure_data.description.endswith("nothing was cancelled")  # type: ignore[union-attr]
    assert project.rows("SELECT status FROM backfill_requests") == [("requested",)]
