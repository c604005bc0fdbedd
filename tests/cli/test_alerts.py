"""`tickstock alerts` and what doctor says of them, as people type it."""

import json
from pathlib import Path

import pytest

from tests.conftest import tickstock
from tests.providers.scripted_server import Reply, serving

SECRET = "s3cr3t-of-the-webhook"


def test_without_a_receiver_all_say_what_turns_them_on(module_home: Path) -> None:
    off = "lerts are off: TICKSTOCK_ALERT_WEBHOOKS or TICKSTOCK_ALERT_MAIL_TO turns them on"
    listed = tickstock("alerts", "list", home=module_home)
    assert (listed.returncode, listed.stdout) == (0, f"There is no alert.\nA{off}\n")
    tested = tickstock("alerts", "test", home=module_home)
    assert (tested.returncode, tested.stderr) == (2, f"tickstock: A{off}; set one of them\n")
    doctor = json.loads(tickstock("doctor", "--offline", "--json", home=module_home).stdout)
    assert doctor["checks"][-1] == {"check": "alerts", "status": "ok", "found": f"a{off}", "remedy": ""}


def test_each_receiver_is_sent_a_test_and_one_that_refuses_is_told_without_its_address(module_home: Path) -> None:
    with serving(Reply(b"ok")) as right, serving(Reply(b"no_service", status=404)) as wrong:
        hooks = f"{right.url}/{SECRET}, {wrong.url}/{SECRET}"
        result = tickstock("alerts", "test", home=module_home, TICKSTOCK_ALERT_WEBHOOKS=hooks)
        doctor = tickstock("doctor", "--offline", "--json", home=module_home, TICKSTOCK_ALERT_WEBHOOKS=hooks)
    assert result.returncode == 2
    taken, refused = result.stdout.splitlines()
    assert taken.endswith(": taken")
    assert refused.endswith("found 404 (no_service); correct TICKSTOCK_ALERT_WEBHOOKS, or make a new webhook")
    assert "*TickStock: test*\nThis is a test" in json.loads(right.asked[0].body)["text"]
    assert SECRET not in result.stdout + result.stderr + doctor.stdout
    looks = json.loads(doctor.stdout)["checks"]
    assert [look["found"] for look in looks if look["check"].startswith("alerts to webhook 127.0.0.1")] == [
        "no message was sent yet; `tickstock alerts test` sends one"
    ] * 2


@pytest.mark.parametrize(
    ("variables", "sentence"),
    [
        (
            {"TICKSTOCK_ALERT_WEBHOOKS": "hooks.example.org/s3cr3t"},
            "TICKSTOCK_ALERT_WEBHOOKS: expected addresses such as",
        ),
        (
            {"TICKSTOCK_ALERT_MAIL_TO": "ops@example.org"},
            "TICKSTOCK_SMTP_HOST: expected the server that mail is sent over",
        ),
        (
            {"TICKSTOCK_ALERT_MAIL_TO": "ops", "TICKSTOCK_SMTP_HOST": "localhost"},
            "TICKSTOCK_ALERT_MAIL_TO: expected addresses such as ops@example.org, found 'ops'; correct it",
        ),
        ({"TICKSTOCK_ALERT_QUIET_MINUTES": "soon"}, "TICKSTOCK_ALERT_QUIET_MINUTES: expected minutes, such as 30"),
        ({"TICKSTOCK_UI_URL": "localhost"}, "TICKSTOCK_UI_URL: "),
    ],
    ids=["webhook", "no server", "address", "quiet", "ui"],
)
def test_a_mistake_in_the_settings_is_one_sentence(module_home: Path, variables: dict[str, str], sentence: str) -> None:
    result = tickstock("alerts", "test", home=module_home, **variables)
    assert (result.returncode, result.stdout) == (2, "")
    assert result.stderr.startswith(f"tickstock: {sentence}")
    assert result.stderr.count("\n") == 1
    assert "s3cr3t" not in result.stderr
