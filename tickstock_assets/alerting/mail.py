"""Alerts by e-mail, over a server that takes mail (SMTP), encrypted unless it is said otherwise."""

import smtplib
import ssl
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.message import EmailMessage
from email.utils import format_datetime
from typing import Literal, assert_never

from pydantic import SecretStr

from tickstock_assets.alerting.receivers import Message, try_a_few_times
from tickstock_assets.domain.errors import ReceiverError, TransientReceiverError

type Security = Literal["starttls", "ssl", "none"]

TIMEOUT_SECONDS = 8.0
PORTS: dict[Security, int] = {"starttls": 587, "ssl": 465, "none": 25}
# From here on a server's reply means: not now, and: never.
NOT_NOW, NEVER = 400, 500


@dataclass(frozen=True)
class MailServer:
    """A server that takes mail.

    Attributes:
        host: its name.
        sender: address that the mail is from.
        security: how the connection is encrypted: from the start, after a greeting, or not.
        port: None for the usual one.
        user: to log in as; None for no login.
        password: of that user.
    """

    host: str
    sender: str
    security: Security = "starttls"
    port: int | None = None
    user: str | None = None
    password: SecretStr | None = field(default=None, repr=False)

    @property
    def place(self) -> str:
        """Return what a person calls it."""
        return f"{self.host}:{self.port or PORTS[self.security]}"

    def connect(self) -> smtplib.SMTP:
        """Return a connection on which mail may be sent.

        Raises:
            smtplib.SMTPException: it was refused.
            OSError: there is none.
        """
        port = self.port or PORTS[self.security]
        match self.security:
            case "ssl":
                context = ssl.create_default_context()
                server: smtplib.SMTP = smtplib.SMTP_SSL(self.host, port, timeout=TIMEOUT_SECONDS, context=context)
            case "starttls" | "none":
                server = smtplib.SMTP(self.host, port, timeout=TIMEOUT_SECONDS)
            case _:
                assert_never(self.security)
        try:
            if self.security == "starttls":
                server.starttls(context=ssl.create_default_context())
            if self.user is not None:
                server.login(self.user, self.password.get_secret_value() if self.password else "")
        except BaseException:
            server.close()
            raise
        return server


class Mail:
    """A receiver at an e-mail address. Each address is one, so that what one refuses is not sent twice to the others."""

    def __init__(self, server: MailServer, address: str) -> None:
        self._server, self._address = server, address

    @property
    def name(self) -> str:
        """The address."""
        return f"mail {self._address}"

    def __repr__(self) -> str:
        return f"Mail({self._address})"

    def send(self, message: Message) -> None:
        """Hand a message to the server; see `Receiver.send`."""
        mail = EmailMessage()
        mail["From"], mail["To"] = self._server.sender, self._address
        mail["Subject"] = " ".join(message.title.split())
        mail["Date"] = format_datetime(datetime.now(UTC))
        mail["Message-ID"] = f"<{message.id}@tickstock>"
        # No answer of an absent person comes back.
        mail["Auto-Submitted"] = "auto-generated"
        mail.set_content("\n\n".join(message.lines) + "\n")
        try_a_few_times(lambda: self._hand_over(mail))

    def _hand_over(self, mail: EmailMessage) -> None:
        try:
            server = self._server.connect()
            try:
                server.send_message(mail)
            finally:
                _part(server)
        except smtplib.SMTPRecipientsRefused as error:
            code, said = next(iter(error.recipients.values()))
            raise self._refused(code, said) from None
        except smtplib.SMTPResponseException as error:
            raise self._refused(error.smtp_code, error.smtp_error) from None
        except smtplib.SMTPNotSupportedError as error:
            wanted = "STARTTLS" if "STARTTLS" in str(error) else "a login"
            raise ReceiverError(
                f"{self.name}: expected {self._server.place} to offer {wanted}, found that it does not; "
                "correct TICKSTOCK_SMTP_SECURITY or TICKSTOCK_SMTP_USER"
            ) from None
        except ssl.SSLCertVerificationError as error:
            raise ReceiverError(
                f"{self.name}: expected a certificate of {self._server.place} that this machine trusts, found: "
                f"{error.verify_message}; correct TICKSTOCK_SMTP_HOST, or have the machine trust its authority"
            ) from None
        except (smtplib.SMTPException, OSError) as error:
            raise TransientReceiverError(
                f"{self.name}: expected {self._server.place} to take a mail, found {type(error).__name__}"
            ) from None

    def _refused(self, code: int, said: bytes | str) -> ReceiverError:
        words = said.decode("utf-8", "replace") if isinstance(said, bytes) else said
        found = (
            f"{self.name}: expected {self._server.place} to take a mail, found {code} {' '.join(words.split())[:100]}"
        )
        if NOT_NOW <= code < NEVER or code == -1:  # -1 is smtplib's for a connection that broke
            return TransientReceiverError(found)
        return ReceiverError(f"{found}; correct TICKSTOCK_ALERT_MAIL_TO or the settings TICKSTOCK_SMTP_*")


def _part(server: smtplib.SMTP) -> None:
    """Say goodbye; the mail is taken or refused by then, so that nobody minds when it is not heard."""
    try:
        server.quit()
    except (smtplib.SMTPException, OSError):
        server.close()
