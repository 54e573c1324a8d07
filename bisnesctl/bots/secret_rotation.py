"""The rotation of the secret of a 360dialog number's webhooks."""

import secrets

from bisnesctl import encryption
from bisnesctl.bots import store, webhook_secrets
from bisnesctl.bots.graph_api import Dialog360, ProviderError
from bisnesctl.bots.linking import Connect, LinkFailed
from bisnesctl.bots.provider_queries import SECRET_HEADER, dialog360_webhook
from bisnesctl.errors import ConfigError, UsageError
from bisnesctl.settings import Settings

#: Random bytes of a new secret.
SECRET_BYTES = 32


def rotate(connect: Connect, settings: Settings, company: str, phone: int) -> None:
    """Replaces the secret of a number, here and at 360dialog.

    Raises `UsageError` if there is no such number, `ConfigError` without PUBLIC_URL, `LinkFailed` if 360dialog refuses;
    then the former secret counts.
    """
    with connect() as connection:
        known = next(iter(store.known(connection, company, phone)), None)
        if known is None or known.type != "360dialog":
            raise UsageError(f"bot {phone} of company {company} is not one of 360dialog: see `bisnesctl bots list`")
        url = dialog360_webhook(settings, company, phone)
        if url is None:
            raise ConfigError("PUBLIC_URL in .env is empty: set it, so that 360dialog finds the receiver of webhooks")
        token = encryption.decrypt(settings.decryption_keys, known.sealed)
        before, after = webhook_secrets.current(connection, settings, company, phone), secrets.token_hex(SECRET_BYTES)
        webhook_secrets.save(connection, settings, known.id, after, before)
    try:
        Dialog360(settings.dialog360_base, token).set_webhook(url, {SECRET_HEADER: after})
    except ProviderError as error:
        with connect() as connection:
            webhook_secrets.save(connection, settings, known.id, before, after)  # it may be stored there all the same
        raise LinkFailed("webhook", error) from error
