"""A webhook takes a message, or says why not; its address is seen by nobody."""

import json
import logging

import pytest
from pydantic import SecretStr

from tests.end_to_end.commands import free_port
from tests.providers.scripted_server import Reply, ScriptedServer, serving
from tickstock_assets.alerting import receivers, webhook
from tickstock_assets.alerting.receivers import Message
from tickstock_assets.alerting.webhook import Webhook
from tickstock_assets.domain.errors import ConfigError, ReceiverError, TransientReceiverError

SECRET = "T0001/B0002/s3cr3t-token"
MESSAGE = Message("5b0d4c3e-0000-5000-8000-000000000001", "TickStock: lag 1d <bars>", ["WARNING a & b", "ERROR c"])


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(receivers, "FIRST_WAIT_SECONDS", 0.0)
    monkeypatch.setattr(receivers, "JITTER_SECONDS", 0.0)
    monkeypatch.setattr(webhook, "READ_SECONDS", 0.5)


def at(server: ScriptedServer) -> Webhook:
    return Webhook(SecretStr(f"{server.url}/services/{SECRET}"))


def test_a_message_is_posted_as_slack_takes_it() -> None:
    with serving(Reply(b"ok")) as server:
        at(server).send(MESSAGE)
    (asked,) = server.asked
    assert asked.path == f"/services/{SECRET}"
    assert json.loads(asked.body) == {"text": "*TickStock: lag 1d &lt;bars&gt;*\nWARNING a &amp; b\nERROR c"}
    assert asked.headers["Content-Type"] == "application/json"
    assert asked.headers["Idempotency-Key"] == MESSAGE.id


@pytest.mark.parametrize(
    "fault",
    [Reply(status=500), Reply(status=429, headers={"Retry-After": "0"}), Reply(hang_up=True), Reply(stall=True)],
    ids=["500", "429", "cut", "hang"],
)
def test_what_passes_is_tried_again_and_the_message_is_the_same(fault: Reply) -> None:
    with serving(fault, Reply(b"ok")) as server:
        at(server).send(MESSAGE)
        first, second = server.asked
    assert first.body == second.body
    assert first.headers["Idempotency-Key"] == second.headers["Idempotency-Key"]


@pytest.mark.parametrize(
    ("reply", "found"),
    [
        (Reply(b"busy", status=503), "found 503 (busy)"),
        (Reply(hang_up=True), "found none (ProtocolError)"),
        (Reply(stall=True), "found none (ReadTimeoutError)"),
        (Reply(status=502, drip=True), "found 502"),
    ],
    ids=["503", "cut", "hang", "drip"],
)
def test_three_tries_and_then_it_is_for_later(reply: Reply, found: str) -> None:
    with serving(reply) as server, pytest.raises(TransientReceiverError) as caught:
        at(server).send(MESSAGE)
    assert len(server.asked) == 3
    assert found in str(caught.value)
    assert SECRET not in str(caught.value)


def test_nobody_listening_is_for_later() -> None:
    nobody = Webhook(SecretStr(f"http://127.0.0.1:{free_port()}/{SECRET}"))
    with pytest.raises(TransientReceiverError, match=r"found none \(NewConnectionError\)$"):
        nobody.send(MESSAGE)


def test_a_long_retry_after_is_not_waited_for_but_told() -> None:
    with serving(Reply(status=429, headers={"Retry-After": "30"})) as server:
        with pytest.raises(TransientReceiverError) as caught:
            at(server).send(MESSAGE)
        assert len(server.asked) == 1
    assert caught.value.retry_after_seconds == 30


@pytest.mark.parametrize("status", [301, 400, 403, 404, 410])
def test_what_stays_wrong_is_one_sentence_at_once_without_the_address(status: int) -> None:
    body = f"no_service for /services/{SECRET}".encode()
    with serving(Reply(body, status=status, headers={"Location": "/elsewhere"})) as server:
        with pytest.raises(ReceiverError) as caught:
            at(server).send(MESSAGE)
        assert len(server.asked) == 1
    said = str(caught.value)
    assert not isinstance(caught.value, TransientReceiverError)
    assert said.startswith("webhook 127.0.0.1 ")
    assert f"expected HTTP 200, found {status} (no_service for [key]); correct TICKSTOCK_ALERT_WEBHOOKS" in said
    assert SECRET not in said


def test_the_name_is_no_secret_and_tells_two_of_a_host_apart() -> None:
    one, two = (Webhook(SecretStr(f"https://hooks.example.org/services/{SECRET}{end}")) for end in "ab")
    assert one.name.startswith("webhook hooks.example.org ")
    assert one.name != two.name
    assert one.name == Webhook(SecretStr(f"https://hooks.example.org/services/{SECRET}a")).name
    assert SECRET not in repr(one) + one.name


def test_nothing_of_the_address_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG), serving(Reply(b"ok")) as server:
        at(server).send(MESSAGE)
    assert "POST" in caplog.text  # urllib3 does log it, at this level
    assert SECRET not in caplog.text


@pytest.mark.parametrize("address", ["hooks.example.org/x", "ftp://example.org/x", "https://", "https://a:b/c", "x"])
def test_what_is_no_address_is_told_without_repeating_it(address: str) -> None:
    with pytest.raises(ConfigError, match=r"^TICKSTOCK_ALERT_WEBHOOKS: expected addresses such as") as caught:
        Webhook(SecretStr(address))
    assert "found something else" in str(caught.value)
