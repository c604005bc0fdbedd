"""What is due is sent in one message, noted when it was taken, kept when it was not; by real HTTP and a real database."""

import json
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta

import pytest
from pydantic import SecretStr
from sqlalchemy import Engine, text

from tests.providers.scripted_server import Reply, ScriptedServer, serving
from tickstock_assets.alerting import delivery, receivers
from tickstock_assets.alerting.delivery import Outcome, Wording, deliver
from tickstock_assets.alerting.webhook import Webhook
from tickstock_assets.domain.alerts import Condition, Kind, Occurrence, quiet_periods
from tickstock_assets.providers.redaction import Redaction
from tickstock_assets.storage import alerts

pytestmark = pytest.mark.tiers("embedded")


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(receivers, "FIRST_WAIT_SECONDS", 0.0)
    monkeypatch.setattr(receivers, "JITTER_SECONDS", 0.0)


def at(server: ScriptedServer, path: str = "hook") -> Webhook:
    return Webhook(SecretStr(f"{server.url}/{path}"))


def send(database: Engine, *to: Webhook, quiet: Mapping[Kind, timedelta] | None = None, **wording: object) -> Outcome:
    return deliver(database, to, quiet or quiet_periods(None), Wording(**wording))  # type: ignore[arg-type]


def failed(database: Engine, *keys: str, subject: str = "daily_history", message: str = "expected a, found b") -> None:
    found = [
        Occurrence(Kind.RUN_FAILED, subject, message, key, datetime.now(UTC), run_id=f"{key}-0123456789")
        for key in keys
    ]
    with database.begin() as connection:
        alerts.count(connection, found)


def lagging(database: Engine, *subjects: str) -> None:
    with database.begin() as connection:
        alerts.hold(connection, Kind.LAG, [Condition(Kind.LAG, subject, "it is behind") for subject in subjects])


def later(database: Engine, minutes: float) -> None:
    """Let time pass for whoever waits."""
    moved = "told_at - make_interval(secs => :seconds)"
    with database.begin() as connection:
        connection.execute(text(f"UPDATE alert_notices SET told_at = {moved}"), {"seconds": minutes * 60})
        connection.execute(
            text("UPDATE alert_receivers SET not_before = not_before - make_interval(secs => :seconds)"),
            {"seconds": minutes * 60},
        )


def texts(server: ScriptedServer) -> list[list[str]]:
    return [json.loads(asked.body)["text"].split("\n") for asked in server.asked]


def test_all_that_is_due_is_one_message_and_is_sent_once(database: Engine) -> None:
    failed(database, "run1")
    lagging(database, "1d bars")
    with serving(Reply(b"ok")) as server:
        outcome = send(database, at(server), ui_url="https://ticks.example.org")
        assert outcome == Outcome({at(server).name: 2}, [], [])
        assert send(database, at(server)) == Outcome({}, [], [])
    assert texts(server) == [
        [
            "*TickStock: run_failed daily_history and 1 more*",
            "ERROR run_failed daily_history: expected a, found b https://ticks.example.org/runs/run1-0123456789",
            "WARNING lag 1d bars: it is behind",
        ]
    ]


def test_repeats_wait_for_the_end_of_the_quiet_period_and_are_counted(database: Engine) -> None:
    with serving(Reply(b"ok")) as server:
        failed(database, "a")
        send(database, at(server))
        failed(database, "b", "c", "d")
        later(database, minutes=29)
        assert send(database, at(server)).told == {}
        later(database, minutes=2)
        send(database, at(server))
    assert len(server.asked) == 2
    assert "(2 more since " in texts(server)[1][1]


def test_that_it_is_well_again_is_told_to_who_was_told_that_it_was_not(database: Engine) -> None:
    with serving(Reply(b"ok")) as server:
        lagging(database, "1d bars")
        send(database, at(server))
        lagging(database)
        send(database, at(server), at(server, "late"))
        send(database, at(server), at(server, "late"))
    assert [asked.path for asked in server.asked] == ["/hook", "/hook"]
    assert texts(server)[1][0] == "*TickStock: resolved: lag 1d bars*"
    assert texts(server)[1][1].startswith("RESOLVED lag 1d bars: well again after ")


def test_what_is_not_taken_is_kept_and_sent_when_it_is(database: Engine) -> None:
    failed(database, "a")
    with serving(*[Reply(status=503)] * 3, Reply(b"ok")) as server:
        hook = at(server)
        outcome = send(database, hook)
        assert outcome.told == {}
        assert outcome.put_off == [f"{hook.name}: expected HTTP 200, found 503 ({{}})"]
        # It is left alone for half a minute.
        (waiting,) = send(database, hook).put_off
        assert waiting.startswith(f"{hook.name}: expected HTTP 200, found 503 ({{}}); tried again from ")
        assert len(server.asked) == 3
        later(database, minutes=0.51)
        assert send(database, hook).told == {hook.name: 1}
        assert len(server.asked) == 4
    assert len({asked.headers["Idempotency-Key"] for asked in server.asked}) == 1
    with database.connect() as connection:
        state = alerts.receivers(connection)[hook.name]
    assert (state.failures, state.error, state.not_before) == (0, None, None)


def test_a_receiver_that_asks_for_a_pause_gets_it(database: Engine) -> None:
    failed(database, "a")
    with serving(Reply(status=429, headers={"Retry-After": "3600"}), Reply(b"ok")) as server:
        send(database, at(server))
        later(database, minutes=59)
        assert send(database, at(server)).told == {}
        later(database, minutes=2)
        assert send(database, at(server)).told == {at(server).name: 1}


def test_one_that_is_wrong_is_refused_loudly_and_keeps_nothing_from_the_others(database: Engine) -> None:
    failed(database, "a")
    with serving(Reply(b"no_service", status=404)) as wrong, serving(Reply(b"ok")) as right:
        outcome = send(database, at(wrong), at(right))
        assert outcome.told == {at(right).name: 1}
        (refusal,) = outcome.refusals
        assert refusal.endswith("found 404 (no_service); correct TICKSTOCK_ALERT_WEBHOOKS, or make a new webhook")
        # While it is left alone nobody is to think that it is well again.
        again = send(database, at(wrong), at(right))
        assert len(wrong.asked) == 1
        assert again.put_off == []
        assert again.refusals[0].startswith(refusal + "; tried again from ")


def test_killed_between_sending_and_writing_down_it_is_sent_again_under_the_same_id(
    database: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    class KilledError(BaseException):
        pass

    def killed(*_: object) -> None:
        raise KilledError

    failed(database, "a")
    with serving(Reply(b"ok")) as server:
        with monkeypatch.context() as patched:
            patched.setattr(delivery.alerts, "delivered", killed)
            with pytest.raises(KilledError):
                send(database, at(server))
        # Until the lease is over nobody else sends, then once more.
        assert send(database, at(server)).told == {}
        later(database, minutes=2.1)
        assert send(database, at(server)).told == {at(server).name: 1}
    first, second = server.asked
    assert (first.body, first.headers["Idempotency-Key"]) == (second.body, second.headers["Idempotency-Key"])


def test_a_storm_comes_in_messages_of_twenty_lines(database: Engine) -> None:
    for number in range(45):
        failed(database, f"run{number}", subject=f"job {number:02}")
    with serving(Reply(b"ok")) as server:
        told = [send(database, at(server)).told.get(at(server).name) for _ in range(4)]
    assert told == [20, 20, 5, None]
    lines = [line for message in texts(server) for line in message[1:]]
    assert [line.split(":")[0] for line in lines] == [f"ERROR run_failed job {number:02}" for number in range(45)]


def test_no_secret_of_the_settings_is_sent(database: Engine) -> None:
    failed(database, "a", message="expected the key s3cr3t-key to be valid,\nfound 401")
    with serving(Reply(b"ok")) as server:
        send(database, at(server), redact=Redaction("s3cr3t-key"))
    assert texts(server)[0][1].startswith(
        "ERROR run_failed daily_history: expected the key [key] to be valid, found 401"
    )
