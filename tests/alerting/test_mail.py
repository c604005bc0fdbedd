"""Mail is handed to a server that may want encryption and a login; what it refuses is told in a sentence."""

from pathlib import Path

import pytest
from pydantic import SecretStr

from tests.alerting.mail_server import PASSWORD, USER, certificate, mail_server
from tests.end_to_end.commands import free_port
from tickstock_assets.alerting import receivers
from tickstock_assets.alerting.mail import Mail, MailServer, Security
from tickstock_assets.alerting.receivers import Message
from tickstock_assets.domain.errors import ReceiverError, TransientReceiverError

MESSAGE = Message("5b0d4c3e-0000-5000-8000-000000000001", "TickStock: lag 1d bars", ["WARNING lag: ä < b", "ERROR c"])
TO = "ops@example.org"


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(receivers, "FIRST_WAIT_SECONDS", 0.0)
    monkeypatch.setattr(receivers, "JITTER_SECONDS", 0.0)


@pytest.fixture(scope="module")
def localhost(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return certificate(tmp_path_factory.mktemp("certificate"))


def mail(port: int, security: Security = "none", password: str | None = None) -> Mail:
    login = {"user": USER, "password": SecretStr(password)} if password is not None else {}
    return Mail(MailServer("localhost", "tickstock@example.org", security, port, **login), TO)  # type: ignore[arg-type]


def test_a_message_is_mailed_with_all_its_lines() -> None:
    with mail_server() as inbox:
        mail(inbox.port).send(MESSAGE)
    (taken,) = inbox.taken
    assert (taken["From"], taken["To"], taken["Subject"]) == ("tickstock@example.org", TO, "TickStock: lag 1d bars")
    assert taken["Message-ID"] == f"<{MESSAGE.id}@tickstock>"
    assert taken["Auto-Submitted"] == "auto-generated"
    assert taken.get_content().replace("\r\n", "\n").strip() == "WARNING lag: ä < b\n\nERROR c"


@pytest.mark.parametrize("security", ["starttls", "ssl"])
def test_it_is_encrypted_and_logged_in_to_a_server_that_this_machine_trusts(
    security: Security, localhost: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(localhost))
    with mail_server(security, localhost, login=security == "starttls") as inbox:
        mail(inbox.port, security, PASSWORD if security == "starttls" else None).send(MESSAGE)
    assert len(inbox.taken) == 1


@pytest.mark.parametrize("security", ["starttls", "ssl"])
def test_a_server_that_this_machine_does_not_trust_gets_nothing(security: Security, localhost: Path) -> None:
    with mail_server(security, localhost) as inbox, pytest.raises(ReceiverError, match="expected a certificate of"):
        mail(inbox.port, security).send(MESSAGE)
    assert inbox.taken == []


def test_a_server_without_encryption_gets_nothing_unless_that_is_wanted() -> None:
    with mail_server() as inbox, pytest.raises(ReceiverError, match="to offer STARTTLS, found that it does not"):
        mail(inbox.port, "starttls", PASSWORD).send(MESSAGE)
    assert inbox.tries == 0


def test_a_wrong_password_is_one_sentence_without_it(localhost: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(localhost))
    with mail_server("starttls", localhost, login=True) as inbox, pytest.raises(ReceiverError) as caught:
        mail(inbox.port, "starttls", "wrong-secret").send(MESSAGE)
    said = str(caught.value)
    assert not isinstance(caught.value, TransientReceiverError)
    assert said.startswith(f"mail {TO}: expected localhost:{inbox.port} to take a mail, found 535 ")
    assert "wrong-secret" not in said


def test_what_the_server_cannot_now_is_tried_again() -> None:
    with mail_server() as inbox:
        inbox.answers = ["451 try later", "421 shutting down", "250 taken"]
        mail(inbox.port).send(MESSAGE)
        assert (inbox.tries, len(inbox.taken)) == (3, 1)
        inbox.answers = ["451 a", "451 b", "451 c"]
        with pytest.raises(TransientReceiverError, match="found 451 c"):
            mail(inbox.port).send(MESSAGE)


def test_what_the_server_never_takes_is_told_at_once() -> None:
    with mail_server() as inbox:
        inbox.answers = ["554 spam"]
        with pytest.raises(ReceiverError, match="found 554 spam; correct TICKSTOCK_ALERT_MAIL_TO"):
            mail(inbox.port).send(MESSAGE)
        inbox.refused_recipients = {TO: "550 no such mailbox"}
        with pytest.raises(ReceiverError, match="found 550 no such mailbox") as caught:
            mail(inbox.port).send(MESSAGE)
        assert not isinstance(caught.value, TransientReceiverError)
        inbox.refused_recipients = {TO: "450 mailbox full"}
        with pytest.raises(TransientReceiverError, match="found 450 mailbox full"):
            mail(inbox.port).send(MESSAGE)
    assert (inbox.tries, inbox.taken) == (1, [])


def test_nobody_listening_is_for_later() -> None:
    port = free_port()
    with pytest.raises(TransientReceiverError, match=f"expected localhost:{port} to take a mail, found Connection"):
        mail(port).send(MESSAGE)
