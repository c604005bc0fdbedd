"""The exceptions a user may meet; each message is one sentence: what, expected, found, what to do.

TickstockError            anything a person can act on; the command prints it and exits with 2
├── ConfigError           a setting or an argument is missing or wrong
├── DatabaseError         the database is unreachable, refuses us, or is of the wrong version
│   └── TransientDatabaseError    may succeed when tried again
├── ContractError         a frame does not have the columns or types its stage promises
├── LandingError          a landed payload is gone or is not what was written
├── ReceiverError         a receiver of alerts does not take them
│   └── TransientReceiverError    may take them when tried again
└── ProviderError         a vendor did not deliver
    ├── TransientProviderError    may succeed when tried again
    ├── QuotaExhaustedError       will succeed from a known moment on
    └── PermanentProviderError    will fail again until something is changed
        ├── BadKeyError           the key is missing, wrong or expired
        ├── NotEntitledError      the plan does not include it
        └── UnknownSymbolError    the vendor has no such symbol
"""

from datetime import datetime


class TickstockError(Exception):
    """Base of every error that names its own remedy."""


class ConfigError(TickstockError):
    """A setting or an argument is missing or wrong."""


class DatabaseError(TickstockError):
    """The database is unreachable, refuses us, or is of the wrong version."""


class TransientDatabaseError(DatabaseError):
    """May succeed when tried again: it was away, or could not serialize us, for longer than is waited at a stretch."""


class ContractError(TickstockError):
    """A frame does not have the columns or types its stage promises."""


class LandingError(TickstockError):
    """A landed payload is gone or is not what was written."""


class ReceiverError(TickstockError):
    """A receiver of alerts does not take them, and will not until something is changed."""


class TransientReceiverError(ReceiverError):
    """May take them when tried again, not before `retry_after_seconds` where it said so."""

    def __init__(self, message: str, retry_after_seconds: float | None = None) -> None:
        super().__init__(message)
        self.retry_after_seconds = retry_after_seconds


class ProviderError(TickstockError):
    """A vendor did not deliver."""


class TransientProviderError(ProviderError):
    """May succeed when tried again: rate limit, 5xx, timeout, broken payload."""


class QuotaExhaustedError(ProviderError):
    """The budget is used up; `until` (UTC) is when the next call may be made."""

    def __init__(self, message: str, until: datetime) -> None:
        super().__init__(message)
        self.until = until


class PermanentProviderError(ProviderError):
    """Fails again until something is changed: bad key, unknown symbol, not entitled, bad request."""


class BadKeyError(PermanentProviderError):
    """The key is missing, wrong or expired: no other request will succeed either."""


class NotEntitledError(PermanentProviderError):
    """The plan does not include what was asked for."""


class UnknownSymbolError(PermanentProviderError):
    """The vendor has no such symbol."""
