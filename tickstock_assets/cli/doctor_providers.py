"""What `tickstock doctor` looks at of providers: one call each, where one can be made at once, and what is left then."""

from collections.abc import Iterator
from datetime import UTC, datetime

from tickstock_assets.cli.doctor_findings import TROUBLE, Finding, Patient, sentence
from tickstock_assets.domain.errors import BadKeyError, QuotaExhaustedError
from tickstock_assets.loading.lineup import Lineup
from tickstock_assets.loading.registry import open_lineup
from tickstock_assets.providers.base import Dataset
from tickstock_assets.providers.http import Patience
from tickstock_assets.providers.polygon import FLAT_FILES, Polygon
from tickstock_assets.providers.quota import UNLIMITED
from tickstock_assets.storage.provider_quota import Remaining

# A look spends one call and does not keep a person waiting.
ONE_TRY = Patience(connect_seconds=5, read_seconds=15, answer_seconds=30, tries=1)


def providers(patient: Patient) -> Iterator[Finding]:
    """Look at each provider that is on, and at its budget."""
    for name in patient.names:
        alone = patient.chosen.model_copy(update={"providers": name})
        try:
            lineup = open_lineup(alone, patient.opened, ONE_TRY)
        except TROUBLE as error:
            yield Finding(name, "failed", sentence(error), f"correct the settings of {name}, see docs/providers.md")
            continue
        patient.lineups.append(lineup)
        yield _provider(patient, lineup)
        yield from _quota(patient, lineup)


def _provider(patient: Patient, lineup: Lineup) -> Finding:
    """Return what a provider says to one call, where one can be made at once."""
    provider, name = lineup.first, lineup.first.name
    if name in lineup.budgets and (found := _not_to_be_asked(patient, lineup)):
        return found
    try:
        return Finding(name, "ok", provider.check())
    except QuotaExhaustedError as error:
        return Finding(name, "warning", sentence(error), "look again then")
    except BadKeyError as error:
        return Finding(name, "failed", sentence(error), f"correct TICKSTOCK_{name.upper()}_API_KEY")
    except TROUBLE as error:
        is_remote = name in lineup.budgets
        remedy = f"correct TICKSTOCK_{name.upper()}_URL if it is wrong, else try again later" if is_remote else ""
        return Finding(name, "failed", sentence(error), remedy or f"correct the settings of {name}")


def _not_to_be_asked(patient: Patient, lineup: Lineup) -> Finding | None:
    """Return why a vendor is not asked now; None when it can be."""
    name = lineup.first.name
    if patient.offline:
        return Finding(name, "ok", "set up; not asked (--offline)")
    if patient.engine is None:
        return Finding(name, "warning", "not asked: its calls are counted in the database", "see the database")
    reason = _cannot_be_asked(lineup.remaining(lineup.first))
    return Finding(name, "warning", f"not asked: {reason}", "look again later") if reason else None


def _cannot_be_asked(left: Remaining) -> str:
    if left.blocked_until is not None and left.blocked_until > datetime.now(UTC):
        return f"the vendor wants no call before {left.blocked_until:%Y-%m-%d %H:%M:%S} UTC"
    if left.day == 0:
        return "no call is left today"
    return "no call is left this minute" if left.minute == 0 else ""


def _quota(patient: Patient, lineup: Lineup) -> Iterator[Finding]:
    """Yield what is left of a provider's budget, after the call that was made to look."""
    provider, check = lineup.first, f"{lineup.first.name} quota"
    if provider.name not in lineup.budgets or patient.engine is None:
        return
    budget = next((route.budget for route in provider.routes(Dataset.DAILY_BARS)), UNLIMITED)
    left = lineup.remaining(provider)
    parts = [
        f"{n_left} of {limit} calls left {period}"
        for n_left, limit, period in (
            (left.minute, budget.per_minute, "this minute"),
            (left.day, budget.per_day, f"today (the vendor's, {budget.zone})"),
        )
        if limit is not None
    ]
    is_blocked = left.blocked_until is not None and left.blocked_until > datetime.now(UTC)
    parts += [f"blocked until {left.blocked_until:%Y-%m-%d %H:%M:%S} UTC by its Retry-After"] if is_blocked else []
    if is_blocked or left.day == 0:
        yield Finding(check, "warning", "; ".join(parts), "loads go on then, or ask the next: TICKSTOCK_ON_QUOTA")
    else:
        yield Finding(check, "ok", "; ".join(parts) or "no limit is set")


def flat_files(patient: Patient) -> Iterator[Finding]:
    """Look whether the flat files can be listed, where some are set."""
    if patient.chosen.flat_files_url is None:
        return
    polygon = next((one.first for one in patient.lineups if one.first.name == Polygon.name), None)
    if polygon is None:
        said = "TICKSTOCK_FLAT_FILES_URL is set, but polygon is not on, which reads them"
        yield Finding("flat files", "warning", said, "set up polygon, or unset it")
        return
    if patient.offline:
        yield Finding("flat files", "ok", "set up; not asked (--offline)")
        return
    horizon = polygon.horizon()
    try:
        published = polygon.etags(Dataset.DAILY_BARS, FLAT_FILES, [horizon])
    except TROUBLE as error:
        remedy = "correct TICKSTOCK_FLAT_FILES_URL, _ACCESS_KEY and _SECRET_KEY, or ask whether the plan has them"
        yield Finding("flat files", "failed", sentence(error), remedy)
        return
    if published:
        yield Finding("flat files", "ok", f"they can be listed, up to {horizon}")
    else:
        said = f"they can be listed; there is none of {horizon}, the last session"
        yield Finding("flat files", "warning", said, "its day comes by other routes until it is published")
