"""Keys blacked out of every text that leaves a provider: messages, and what libraries log of their own accord."""

import logging
import re
from urllib.parse import quote, quote_plus

from pydantic import SecretStr

BLACKED_OUT = "[key]"
# A logger's filter sees what is logged to it alone, not to its children, so each is named.
TALKATIVE_LOGGERS = (
    "urllib3.connectionpool",
    "urllib3.connection",
    "urllib3.poolmanager",
    "urllib3.response",
    "urllib3.util.retry",
)


class Redaction:
    """Blacks out secrets as given, and as they look within a URL."""

    def __init__(self, *secrets: SecretStr | str) -> None:
        plain = {secret.get_secret_value() if isinstance(secret, SecretStr) else secret for secret in secrets} - {""}
        forms = {
            form for secret in plain for form in (secret, quote(secret), quote(secret, safe=""), quote_plus(secret))
        }
        # Longest first: where one form is part of another, the whole must go. Escapes are written in either case.
        ordered = sorted(forms, key=len, reverse=True)
        self._pattern = re.compile("|".join(map(re.escape, ordered)), re.IGNORECASE) if ordered else None

    def __call__(self, text: str) -> str:
        """Return a text without the secrets."""
        return self._pattern.sub(BLACKED_OUT, text) if self._pattern else text

    def __repr__(self) -> str:
        return "Redaction()"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Redaction) and self._pattern == other._pattern

    def __hash__(self) -> int:
        return hash(self._pattern)


class _RedactingFilter(logging.Filter):
    def __init__(self, redact: Redaction) -> None:
        super().__init__()
        self.redact = redact

    def filter(self, record: logging.LogRecord) -> bool:
        record.msg, record.args = self.redact(record.getMessage()), ()
        return True


def keep_out_of_logs(redact: Redaction) -> None:
    """Black the secrets out of what HTTP libraries log, from now on in this process; repeating it adds nothing."""
    for name in TALKATIVE_LOGGERS:
        logger = logging.getLogger(name)
        if not any(isinstance(known, _RedactingFilter) and known.redact == redact for known in logger.filters):
            logger.addFilter(_RedactingFilter(redact))
