"""The Retry-After header: seconds or a date, RFC 9110 section 10.2.3."""

import re
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime


def seconds_to_wait(header: str | None, now: datetime) -> float | None:
    """Return how many seconds from now on a vendor wants no call; None where the header is missing or unreadable.

    Args:
        header: such as "30" or "Wed, 21 Oct 2026 07:28:00 GMT".
        now: UTC.
    """
    text = (header or "").strip()
    if re.fullmatch(r"\d{1,9}(\.\d+)?", text):
        return float(text)
    try:
        moment = parsedate_to_datetime(text)
    except ValueError:
        return None
    # A date without a zone is UTC, as HTTP's dates always are.
    moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return max((moment - now).total_seconds(), 0.0)
