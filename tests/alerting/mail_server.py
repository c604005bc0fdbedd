# ruff: noqa: N802, ARG001, ARG002 aiosmtpd calls these by name, with what it has
"""A real mail server on loopback: what it took, which logins it knows, and how it refuses."""

import contextlib
import socket
import ssl
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field
from email import message_from_bytes, policy
from email.message import EmailMessage
from pathlib import Path

from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, AuthResult, Envelope, LoginPassword, Session

USER, PASSWORD = "alerts", "correct-horse-battery"


@dataclass
class Inbox:
    """What the server took, and what it answers to a message or a recipient instead."""

    port: int = 0
    taken: list[EmailMessage] = field(default_factory=list)
    tries: int = 0
    answers: list[str] = field(default_factory=list)
    refused_recipients: dict[str, str] = field(default_factory=dict)

    async def handle_RCPT(
        self, server: SMTP, session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        if address in self.refused_recipients:
            return self.refused_recipients[address]
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:
        self.tries += 1
        answer = self.answers.pop(0) if self.answers else "250 taken"
        if answer.startswith("250"):
            assert isinstance(envelope.content, bytes)
            self.taken.append(message_from_bytes(envelope.content, policy=policy.default))  # type: ignore[arg-type]
        return answer


def certificate(folder: Path) -> Path:
    """Make a certificate of localhost that is its own authority, with its key beside it."""
    file = folder / "localhost.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2",
         "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost", "-keyout", folder / "key.pem", "-out", file],
        check=True, capture_output=True,
    )  # fmt: skip
    return file


def _knows(server: SMTP, session: Session, envelope: Envelope, mechanism: str, data: object) -> AuthResult:
    is_right = isinstance(data, LoginPassword) and data == LoginPassword(USER.encode(), PASSWORD.encode())
    return AuthResult(success=is_right, handled=False)


def port_of(controller: Controller) -> int:
    port: int = controller.server.sockets[0].getsockname()[1]
    return port


def _connect(port: int, security: str) -> None:
    with socket.create_connection(("127.0.0.1", port), 5) as connection:
        if security == "ssl":
            ssl._create_unverified_context().wrap_socket(connection).close()


@contextlib.contextmanager
def mail_server(
    security: str = "none", certificate_file: Path | None = None, *, login: bool = False
) -> Iterator[Inbox]:
    """Run a server: `security` is none, starttls or ssl, and with `login` it takes nothing from strangers."""
    inbox = Inbox()
    context = None
    if certificate_file:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate_file, certificate_file.parent / "key.pem")
    controller = Controller(
        inbox,
        hostname="127.0.0.1",
        port=0,
        ssl_context=context if security == "ssl" else None,
        tls_context=context if security == "starttls" else None,
        require_starttls=security == "starttls",
        **(
            {"authenticator": _knows, "auth_required": True, "auth_require_tls": security == "starttls"}
            if login
            else {}
        ),
    )
    # Its own look at whether it is up connects to the port it was given, and trusts nobody.
    controller._trigger_server = lambda: _connect(port_of(controller), security)  # type: ignore[method-assign]
    controller.start()
    try:
        inbox.port = port_of(controller)
        yield inbox
    finally:
        controller.stop()
