"""Alerts to a webhook, as Slack and what is compatible with it take them: a POST of JSON with a `text`.

The address is a secret: whoever has it can post. It stands in no message, no log and no name.
"""

import hashlib
import ssl
from datetime import UTC, datetime
from urllib.parse import urlsplit

import certifi
import orjson
import urllib3
from pydantic import SecretStr

from tickstock_assets.alerting.receivers import Message, try_a_few_times
from tickstock_assets.domain.errors import ConfigError, ReceiverError, TransientReceiverError
from tickstock_assets.providers.redaction import Redaction, keep_out_of_logs
from tickstock_assets.providers.retry_after import seconds_to_wait

SETTING = "TICKSTOCK_ALERT_WEBHOOKS"
CONNECT_SECONDS, READ_SECONDS = 3.0, 5.0
# Request timeout, too early, too many requests; and any 5xx.
TRANSIENT_BELOW_500 = {408, 425, 429}
OF_AN_ANSWER = 200


class Webhook:
    """A receiver at an address.

    Args:
        address: https or http; what follows the host is secret.

    Raises:
        ConfigError: it is no such address.
    """

    def __init__(self, address: SecretStr) -> None:
        self._address = address.get_secret_value()
        try:
            parts = urlsplit(self._address)
            host, _ = parts.hostname, parts.port
        except ValueError:  # a port that is none
            host = None
        if not host or parts.scheme not in {"http", "https"}:
            raise ConfigError(
                f"{SETTING}: expected addresses such as https://hooks.example.org/..., with commas between them, "
                "found something else; correct it"
            )
        # Two of one host are told apart, and nobody learns the address from it.
        self._name = f"webhook {host} {hashlib.sha256(self._address.encode()).hexdigest()[:6]}"
        self._redact = Redaction(self._address, *(part for part in (parts.path, parts.query) if len(part) > 1))
        keep_out_of_logs(self._redact)
        self._pool = urllib3.PoolManager(
            timeout=urllib3.Timeout(connect=CONNECT_SECONDS, read=READ_SECONDS),
            retries=False,
            ssl_context=_trusted(),
        )

    @property
    def name(self) -> str:
        """Host and a fingerprint of the address."""
        return self._name

    def __repr__(self) -> str:
        return f"Webhook({self._name})"

    def send(self, message: Message) -> None:
        """Post a message; see `Receiver.send`."""
        text = "\n".join([f"*{_escaped(message.title)}*", *map(_escaped, message.lines)])
        body = orjson.dumps({"text": text})
        try_a_few_times(lambda: self._post(body, message.id))

    def _post(self, body: bytes, message_id: str) -> None:
        headers = {"Content-Type": "application/json", "Idempotency-Key": message_id}
        try:
            answer = self._pool.request(
                "POST", self._address, body=body, headers=headers, redirect=False, preload_content=False
            )
            is_taken = 200 <= answer.status < 300
            # Its words matter only where they say why not, and only what comes at once.
            said = b"" if is_taken else answer.read1(OF_AN_ANSWER, decode_content=False)
        except (urllib3.exceptions.HTTPError, OSError) as error:
            # What urllib3 says of it has the address in it.
            reason = type(getattr(error, "reason", None) or error).__name__
            raise TransientReceiverError(f"{self._name}: expected an answer, found none ({reason})") from None
        answer.close()
        if not is_taken:
            raise self._refusal(answer.status, answer.headers.get("Retry-After"), said)

    def _refusal(self, status: int, retry_after: str | None, said: bytes) -> ReceiverError:
        words = " ".join(self._redact(said.decode("utf-8", "replace")).split())[:100]
        found = f"{self._name}: expected HTTP 200, found {status}{f' ({words})' if words else ''}"
        if status in TRANSIENT_BELOW_500 or status >= 500:
            return TransientReceiverError(found, seconds_to_wait(retry_after, datetime.now(UTC)))
        return ReceiverError(f"{found}; correct {SETTING}, or make a new webhook")


def _escaped(text: str) -> str:
    """Return a text in which nothing is a link or a mention to Slack."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _trusted() -> ssl.SSLContext:
    """Trust the machine's own authorities, as a company's may be, and the usual ones."""
    context = ssl.create_default_context()
    context.load_verify_locations(certifi.where())
    return context
