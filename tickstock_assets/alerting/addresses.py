"""The receivers that the settings name."""

import re

from pydantic import SecretStr

from tickstock_assets.alerting.mail import Mail, MailServer
from tickstock_assets.alerting.receivers import Receiver
from tickstock_assets.alerting.webhook import Webhook
from tickstock_assets.domain.errors import ConfigError
from tickstock_assets.settings import Settings

# In words for whoever wonders why nobody hears anything.
OFF = "alerts are off: TICKSTOCK_ALERT_WEBHOOKS or TICKSTOCK_ALERT_MAIL_TO turns them on"
ADDRESS = re.compile(r"[^@\s,;<>\"]+@[^@\s,;<>\"]+")


def receivers(chosen: Settings) -> list[Receiver]:
    """Return the receivers that the settings name; none when alerts are off.

    Raises:
        ConfigError: an address is none, or there is no server to send mail over.
    """
    webhooks = _parts(chosen.alert_webhooks.get_secret_value() if chosen.alert_webhooks else "")
    found: list[Receiver] = [Webhook(SecretStr(address)) for address in webhooks]
    to = _addresses("TICKSTOCK_ALERT_MAIL_TO", chosen.alert_mail_to or "")
    if to:
        server = _mail_server(chosen)
        found += [Mail(server, address) for address in to]
    return found


def _mail_server(chosen: Settings) -> MailServer:
    if chosen.smtp_host is None:
        raise ConfigError(
            "TICKSTOCK_SMTP_HOST: expected the server that mail is sent over, since TICKSTOCK_ALERT_MAIL_TO names "
            "addresses, found it unset; set it"
        )
    (sender, *more) = _addresses("TICKSTOCK_ALERT_MAIL_FROM", chosen.alert_mail_from) or [""]
    if more or not sender:
        raise ConfigError("TICKSTOCK_ALERT_MAIL_FROM: expected one address, found none or several; set one")
    return MailServer(
        chosen.smtp_host, sender, chosen.smtp_security, chosen.smtp_port, chosen.smtp_user, chosen.smtp_password
    )


def _addresses(setting: str, text: str) -> list[str]:
    found = _parts(text)
    if wrong := [part for part in found if not ADDRESS.fullmatch(part)]:
        raise ConfigError(f"{setting}: expected addresses such as ops@example.org, found {wrong[0]!r}; correct it")
    return found


def _parts(text: str) -> list[str]:
    """Return what stands between commas and blanks, each once."""
    return list(dict.fromkeys(re.split(r"[,\s]+", text.strip(", \t\r\n")))) if text.strip(", \t\r\n") else []
