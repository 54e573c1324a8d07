"""Links a phone number: asks its provider, subscribes its webhooks, and stores the bot."""

import contextlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace

from bisnesctl import encryption
from bisnesctl.bots import store, webhook_secrets
from bisnesctl.bots.graph_api import (
    Callback,
    Dialog360,
    JsonObject,
    ProviderError,
    ProviderRefused,
    ProviderUnavailable,
    as_object,
    exchange_code,
)
from bisnesctl.bots.identity import Identity, account_of, check_named, of_dialog360
from bisnesctl.bots.provider_queries import (
    META_PATH,
    SECRET_HEADER,
    accounts_of,
    dialog360_webhook,
    entity_id,
    graph_of,
    read_number,
    token_facts,
)
from bisnesctl.bots.store import NewBot, StoredBot
from bisnesctl.database.postgres import Connection
from bisnesctl.errors import BisnesError, ConfigError, ExitCode
from bisnesctl.settings import Settings

Connect = Callable[[], AbstractContextManager[Connection]]


class LinkFailed(BisnesError):
    """The phone number could not be linked; nothing was stored."""

    exit_code = ExitCode.USAGE

    def __init__(self, step: str | None = None, error: ProviderError | None = None, kept: bool = False) -> None:
        """`step`: exchange, number, account, subscribe, register, health or webhook; `kept`: its token was stored."""
        super().__init__(f"linking failed at the step {step}: {error}{_KEPT if kept else ''}" if error else None)
        self.step = step
        self.error = error
        self.kept = kept
        if error is not None:
            self.exit_code = error.exit_code

    @property
    def temporary(self) -> bool:
        """Whether a retry in a few minutes may succeed."""
        return isinstance(self.error, ProviderUnavailable)


_KEPT = ". The token of the signup is stored: solve the problem, then repeat the request without the code"


@dataclass(frozen=True, slots=True)
class LinkOptions:
    """The bot to link, and how."""

    bot: NewBot
    code: str | None = field(default=None, repr=False)  # of the embedded signup, instead of a token
    pin: str | None = field(default=None, repr=False)  # register the number with it
    set_webhook: bool = False  # send the bot's webhooks to our address instead of the app's
    verify: bool = True  # False: do not ask the provider


@dataclass(frozen=True, slots=True)
class LinkResult:
    """The result of linking."""

    new: bool
    asked: bool  # whether the provider was asked
    name: str | None = None  # the verified name
    display_number: str | None = None
    hints: tuple[str, ...] = ()  # remaining steps


def link(connect: Connect, settings: Settings, options: LinkOptions) -> LinkResult:
    """Verifies the ids of a bot with its provider, subscribes and registers it as requested, and stores it.

    If nothing changes that concerns the provider, a known bot is stored without asking the provider. No database
    connection is held while the provider is asked. The error that another bot has the number is raised only after the
    caller has proved that the number is theirs. Raises `LinkFailed` with the step that failed, `UsageError`,
    `IdentityRefused`, `Conflict`, `ConfigError` or `EncryptionError`.
    """
    encryption.key_bytes(settings.encryption_key.get_secret_value())  # before a code is used, which is valid only once
    _check_settings(settings, options)
    with connect() as connection:
        known = next(iter(store.known(connection, options.bot.company, options.bot.phone)), None)
        bot = replace(options.bot, type=options.bot.type or (known.type if known else store.DEFAULT_TYPE))
        store.check_ids(bot)
        store.check_quota(connection, settings, bot)
    number = bot.phone_number_id or (known.phone_number_id if known else None)
    store.check_complete(str(bot.type), number, bot.token or options.code or _sealed(known, bot))
    linked = LinkResult(new=False, asked=False, hints=_web_hints(bot, known))
    if _concerns_provider(options, bot, known):
        bot, linked = _ask(connect, settings, options, bot, known)
    with connect() as connection:
        return replace(linked, new=store.save(connection, bot, settings, proved=linked.asked))


def _sealed(known: StoredBot | None, bot: NewBot) -> str | None:
    """The stored credential, unless it is for another provider."""
    return known.sealed if known and (known.type == "360dialog") == (bot.type == "360dialog") else None


def _concerns_provider(options: LinkOptions, bot: NewBot, known: StoredBot | None) -> bool:
    if bot.type == "wwebjs" or not (options.verify or options.code):
        return False
    given = (bot.token, options.code, options.pin, options.set_webhook)
    return known is None or not known.ready or any(given) or _changed(bot, known)


def _changed(bot: NewBot, known: StoredBot) -> bool:
    pairs = (bot.type, known.type), (bot.phone_number_id, known.phone_number_id), (bot.waba_id, known.waba_id)
    return any(now is not None and now != before for now, before in pairs)


def _ask(
    connect: Connect, settings: Settings, options: LinkOptions, bot: NewBot, known: StoredBot | None
) -> tuple[NewBot, LinkResult]:
    """The bot with verified ids, after its webhooks are subscribed."""
    if options.code:
        bot = replace(bot, token=_exchange(settings, options.code))
    token = bot.token or encryption.decrypt(settings.decryption_keys, _sealed(known, bot))
    verify, set_up = (_verify_dialog360, _set_up_dialog360) if bot.type == "360dialog" else (_verify_meta, _set_up_meta)
    try:
        proved, linked = verify(settings, bot, known, token)
    except LinkFailed as failed:
        if not options.code or (known is not None and known.ready):  # a working credential is not replaced
            raise
        raise _kept(connect, settings, replace(bot, phone_number_id=None, waba_id=None), failed) from failed
    with connect() as connection:
        store.check_free(connection, proved)
    try:
        return proved, replace(linked, hints=(*linked.hints, *set_up(connect, settings, options, proved, token)))
    except LinkFailed as failed:
        if not options.code:
            raise
        raise _kept(connect, settings, proved, failed) from failed


def _kept(connect: Connect, settings: Settings, bot: NewBot, failed: LinkFailed) -> LinkFailed:
    """Stores the token of the signup with the verified ids; returns the failure that reports it."""
    with connect() as connection:
        store.save(connection, bot, settings, ready=False, proved=True)
    return LinkFailed(failed.step, failed.error, kept=True)


def _check_settings(settings: Settings, options: LinkOptions) -> None:
    """Raises `ConfigError` if a setting is missing that a step needs."""
    if options.code and not (_app_id(settings) and settings.meta_app_secret):
        raise ConfigError("the embedded signup needs META_APP_ID and META_APP_SECRET in .env")
    if options.set_webhook and not (settings.webhook_base and settings.meta_verify_token):
        raise ConfigError("to receive webhooks here, set PUBLIC_URL and META_VERIFY_TOKEN in .env")


def _app_id(settings: Settings) -> str:
    return settings.meta_app_id or ("0" if settings.sandbox else "")


def _exchange(settings: Settings, code: str) -> str:
    secret = settings.meta_app_secret.get_secret_value()
    with _step("exchange"):
        return exchange_code(settings.graph_url, settings.meta_graph_version, _app_id(settings), secret, code)


def _verify_meta(settings: Settings, bot: NewBot, known: StoredBot | None, token: str) -> tuple[NewBot, LinkResult]:
    """Verifies that the token gives access to the number and that the account contains it."""
    graph, number = graph_of(settings, token), bot.phone_number_id or str(known and known.phone_number_id)
    with _step("number"):
        node = graph.number(number)
        if node.get("id", number) != number:
            raise ProviderRefused(f"Meta has another id for the number {number}", advice="name the id that Meta shows")
    found, account = read_number(node), bot.waba_id
    with _step("account"):
        if account is None:
            account = account_of(graph, number, _likely_accounts(settings, node, number, known, token))
        elif number not in graph.phone_numbers(account):
            raise ProviderRefused(
                f"the business account {account} does not contain the number {number}",
                advice="name the account of the number, or leave it out (wabaId, --waba-id)",
            )
    display_number = bot.display_number or found.display_number
    proved = replace(bot, phone_number_id=number, waba_id=account, display_number=display_number)
    return proved, LinkResult(False, True, found.name, found.display_number, tuple(_meta_hints(settings, account)))


def _likely_accounts(
    settings: Settings, node: JsonObject, number: str, known: StoredBot | None, token: str
) -> Iterator[str]:
    """Accounts that may contain the number: the stored one, the one that Meta reports, the only one of the token."""
    if known is not None and known.waba_id and known.phone_number_id == number:
        yield known.waba_id
    if shown := entity_id(as_object(node.get("health_status")), "WABA"):
        yield shown
    with contextlib.suppress(ProviderError):
        found = accounts_of(token_facts(settings, token))
        if len(found) == 1:
            yield found[0]


def _set_up_meta(_: Connect, settings: Settings, options: LinkOptions, bot: NewBot, token: str) -> tuple[str, ...]:
    graph = graph_of(settings, token)
    callback = Callback(f"{settings.webhook_base}{META_PATH}", settings.meta_verify_token.get_secret_value())
    with _step("subscribe"):
        if bot.waba_id:
            graph.subscribe(bot.waba_id, callback if options.set_webhook else None)
    with _step("register"):
        if options.pin:
            graph.register(str(bot.phone_number_id), options.pin)
    return ()


def _web_hints(bot: NewBot, known: StoredBot | None) -> tuple[str, ...]:
    """The next step for a new WhatsApp Web bot: a phone is linked, which proves its number."""
    if bot.type != "wwebjs" or (known is not None and known.type == "wwebjs"):
        return ()
    return (f"link a phone: `bisnesctl bots link {bot.company} {bot.phone}`",)


def _meta_hints(settings: Settings, account: str | None) -> Iterator[str]:
    if not account:
        yield "name the business account (--waba-id), so that webhooks can be subscribed and checked"
    if settings.webhook_base is None:
        yield "set PUBLIC_URL in .env, so that the address of webhooks can be checked"


def _verify_dialog360(
    settings: Settings, bot: NewBot, known: StoredBot | None, token: str
) -> tuple[NewBot, LinkResult]:
    """Takes the ids that 360dialog reports for the API key. Raises `IdentityRefused` if other ids were named."""
    with _step("health"):
        reported = of_dialog360(Dialog360(settings.dialog360_base, token).health_status())
    number = bot.phone_number_id or (known.phone_number_id if known else None)  # a different number must be named
    check_named(Identity(number, bot.waba_id), reported)
    return replace(bot, phone_number_id=reported.phone_number_id, waba_id=reported.waba_id), LinkResult(False, True)


def _set_up_dialog360(
    connect: Connect, settings: Settings, options: LinkOptions, bot: NewBot, token: str
) -> tuple[str, ...]:
    url = dialog360_webhook(settings, bot.company, bot.phone)
    if url is None:
        return ("set PUBLIC_URL in .env, then `bisnesctl bots add … --set-webhook` subscribes webhooks",)
    with connect() as connection:
        secret = webhook_secrets.current(connection, settings, bot.company, bot.phone)
    with _step("webhook"):
        Dialog360(settings.dialog360_base, token).set_webhook(url, {SECRET_HEADER: secret})
    return ()


@contextlib.contextmanager
def _step(name: str) -> Iterator[None]:
    try:
        yield
    except ProviderError as error:
        raise LinkFailed(name, error) from error
