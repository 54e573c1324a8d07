"""Links a number: its provider is asked before it is stored, and told where its webhooks go."""

import contextlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace

from bisnesctl import encryption
from bisnesctl.bots import store
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
    dialog360_secret,
    dialog360_webhook,
    entity_id,
    graph_of,
    read_number,
    token_facts,
)
from bisnesctl.bots.store import Known, NewBot
from bisnesctl.database.postgres import Connection
from bisnesctl.errors import BisnesError, ConfigError, ExitCode
from bisnesctl.settings import Settings

Connect = Callable[[], AbstractContextManager[Connection]]


class LinkFailed(BisnesError):
    """The number could not be linked; nothing was stored."""

    exit_code = ExitCode.USAGE

    def __init__(self, step: str | None = None, error: ProviderError | None = None, kept: bool = False) -> None:
        """`step`: exchange, number, account, subscribe, register, health or webhook; `kept`: its token was stored."""
        super().__init__(f"not linked, at the step {step}: {error}{_KEPT if kept else ''}" if error else None)
        self.step, self.error, self.kept = step, error, kept
        if error is not None:
            self.exit_code = error.exit_code

    @property
    def passing(self) -> bool:
        """Whether the same may succeed in a few minutes."""
        return isinstance(self.error, ProviderUnavailable)


_KEPT = ". The token of the signup is stored: put it right, then do the same again without the code"


@dataclass(frozen=True, slots=True)
class LinkOptions:
    """What is to be linked, and how."""

    bot: NewBot
    code: str | None = field(default=None, repr=False)  # of the embedded signup, instead of a token
    pin: str | None = field(default=None, repr=False)  # register the number with it
    set_webhook: bool = False  # the number's webhooks come to our address, whatever the app's is
    verify: bool = True  # False: nobody is asked


@dataclass(frozen=True, slots=True)
class LinkResult:
    """What became of it."""

    new: bool
    asked: bool  # whether the provider was asked
    name: str | None = None  # the verified one
    display_number: str | None = None
    hints: tuple[str, ...] = ()  # what is left to do


def link(connect: Connect, settings: Settings, wish: LinkOptions) -> LinkResult:
    """Asks the provider about a number, proves its ids, subscribes and registers it as told, and stores it.

    A known bot for which nothing is told that concerns its provider is stored, and goes on, without a question. No
    connection is held while the provider is asked. Whether another bot has the number is said to those alone who
    proved that it is theirs. Raises `LinkFailed` with the step that failed, `UsageError`, `IdentityRefused`,
    `Conflict`, `ConfigError` or `VaultError`.
    """
    key = settings.encryption_key.get_secret_value()
    encryption.key_bytes(key)  # before a code is spent that counts once
    _check_settings(settings, wish)
    with connect() as connection:
        known = next(iter(store.known(connection, wish.bot.company, wish.bot.phone)), None)
    bot = replace(wish.bot, type=wish.bot.type or (known.type if known else store.USUAL_TYPE))
    store.check_ids(bot)
    number = bot.phone_number_id or (known.phone_number_id if known else None)
    store.check_complete(str(bot.type), number, bot.token or wish.code or _sealed(known, bot))
    linked = LinkResult(new=False, asked=False, hints=_web_hints(bot, known))
    if _concerns_provider(wish, bot, known):
        bot, linked = _ask(connect, settings, wish, bot, known)
    with connect() as connection:
        return replace(linked, new=store.save(connection, bot, key, proved=linked.asked))


def _sealed(known: Known | None, bot: NewBot) -> str | None:
    """The stored credential, unless it is for another kind of provider."""
    return known.sealed if known and (known.type == "360dialog") == (bot.type == "360dialog") else None


def _concerns_provider(wish: LinkOptions, bot: NewBot, known: Known | None) -> bool:
    if bot.type == "wwebjs" or not (wish.verify or wish.code):
        return False
    told = (bot.token, wish.code, wish.pin, wish.set_webhook)
    return known is None or not known.ready or any(told) or _changed(bot, known)


def _changed(bot: NewBot, known: Known) -> bool:
    pairs = (bot.type, known.type), (bot.phone_number_id, known.phone_number_id), (bot.waba_id, known.waba_id)
    return any(now is not None and now != before for now, before in pairs)


def _ask(
    connect: Connect, settings: Settings, wish: LinkOptions, bot: NewBot, known: Known | None
) -> tuple[NewBot, LinkResult]:
    """The bot with the ids that its credential proves, once its provider sends webhooks."""
    if wish.code:
        bot = replace(bot, token=_exchange(settings, wish.code))
    token = bot.token or encryption.decrypt(settings.encryption_key.get_secret_value(), _sealed(known, bot) or "")
    prove, set_up = (_prove_dialog360, _set_up_dialog360) if bot.type == "360dialog" else (_prove_meta, _set_up_meta)
    try:
        proved, linked = prove(settings, bot, known, token)
    except LinkFailed as failed:
        if not wish.code or (known is not None and known.ready):  # what works is not replaced
            raise
        raise _kept(connect, settings, replace(bot, phone_number_id=None, waba_id=None), failed) from failed
    with connect() as connection:
        store.check_free(connection, proved)
    try:
        return proved, replace(linked, hints=(*linked.hints, *set_up(settings, wish, proved, token)))
    except LinkFailed as failed:
        if not wish.code:
            raise
        raise _kept(connect, settings, proved, failed) from failed


def _kept(connect: Connect, settings: Settings, bot: NewBot, failed: LinkFailed) -> LinkFailed:
    """The failure, once the token of the signup is stored with the ids that were proved."""
    with connect() as connection:
        store.save(connection, bot, settings.encryption_key.get_secret_value(), ready=False, proved=True)
    return LinkFailed(failed.step, failed.error, kept=True)


def _check_settings(settings: Settings, wish: LinkOptions) -> None:
    """Raises `ConfigError` where a step would fail for want of a setting."""
    if wish.code and not (_app_id(settings) and settings.meta_app_secret):
        raise ConfigError("the embedded signup needs META_APP_ID and META_APP_SECRET in .env")
    if wish.set_webhook and not (settings.webhook_base and settings.meta_verify_token):
        raise ConfigError("to have webhooks sent here, set PUBLIC_URL and META_VERIFY_TOKEN in .env")


def _app_id(settings: Settings) -> str:
    return settings.meta_app_id or ("0" if settings.sandbox else "")


def _exchange(settings: Settings, code: str) -> str:
    secret = settings.meta_app_secret.get_secret_value()
    with _step("exchange"):
        return exchange_code(settings.graph_url, settings.meta_graph_version, _app_id(settings), secret, code)


def _prove_meta(settings: Settings, bot: NewBot, known: Known | None, token: str) -> tuple[NewBot, LinkResult]:
    """The token opens the number, and the account has it."""
    graph, number = graph_of(settings, token), bot.phone_number_id or str(known and known.phone_number_id)
    with _step("number"):
        node = graph.number(number)
        if node.get("id", number) != number:
            raise ProviderRefused(f"Meta knows the number {number} by another id", advice="name the id that Meta shows")
    found, account = read_number(node), bot.waba_id
    with _step("account"):
        if account is None:
            account = account_of(graph, number, _likely_accounts(settings, node, number, known, token))
        elif number not in graph.phone_numbers(account):
            raise ProviderRefused(
                f"the business account {account} has no number {number}",
                advice="name the account that the number is in, or leave it out (wabaId, --waba-id)",
            )
    display_number = bot.display_number or found.display_number
    proved = replace(bot, phone_number_id=number, waba_id=account, display_number=display_number)
    return proved, LinkResult(False, True, found.name, found.display_number, tuple(_meta_hints(settings, account)))


def _likely_accounts(
    settings: Settings, node: JsonObject, number: str, known: Known | None, token: str
) -> Iterator[str]:
    """The accounts that may have the number: the stored one, the one that Meta shows, the token's only one."""
    if known is not None and known.waba_id and known.phone_number_id == number:
        yield known.waba_id
    if shown := entity_id(as_object(node.get("health_status")), "WABA"):
        yield shown
    with contextlib.suppress(ProviderError):
        found = accounts_of(token_facts(settings, token))
        if len(found) == 1:
            yield found[0]


def _set_up_meta(settings: Settings, wish: LinkOptions, bot: NewBot, token: str) -> tuple[str, ...]:
    graph = graph_of(settings, token)
    with _step("subscribe"):
        if bot.waba_id:
            graph.subscribe(bot.waba_id, _callback(settings) if wish.set_webhook else None)
    with _step("register"):
        if wish.pin:
            graph.register(str(bot.phone_number_id), wish.pin)
    return ()


def _callback(settings: Settings) -> Callback:
    return Callback(f"{settings.webhook_base}{META_PATH}", settings.meta_verify_token.get_secret_value())


def _web_hints(bot: NewBot, known: Known | None) -> tuple[str, ...]:
    """Nobody is asked about a WhatsApp Web number: a phone proves that it is ours."""
    if bot.type != "wwebjs" or (known is not None and known.type == "wwebjs"):
        return ()
    return (f"link a phone: `bisnesctl bots link {bot.company} {bot.phone}`",)


def _meta_hints(settings: Settings, account: str | None) -> Iterator[str]:
    if not account:
        yield "name its business account (--waba-id), so that its webhooks can be subscribed and checked"
    if settings.webhook_base is None:
        yield "set PUBLIC_URL in .env, so that it can be checked where webhooks go"


def _prove_dialog360(settings: Settings, bot: NewBot, known: Known | None, token: str) -> tuple[NewBot, LinkResult]:
    """The ids are those that 360dialog tells for the API key. Raises `IdentityRefused` if others are wanted."""
    with _step("health"):
        told = of_dialog360(Dialog360(settings.dialog360_base, token).health_status())
    number = bot.phone_number_id or (known.phone_number_id if known else None)  # another one must be named
    check_named(Identity(number, bot.waba_id), told)
    return replace(bot, phone_number_id=told.phone_number_id, waba_id=told.waba_id), LinkResult(False, True)


def _set_up_dialog360(settings: Settings, wish: LinkOptions, bot: NewBot, token: str) -> tuple[str, ...]:
    url = dialog360_webhook(settings, bot.company, bot.phone)
    if url is None:
        return ("set PUBLIC_URL in .env, then `bisnesctl bots add … --set-webhook` has webhooks sent",)
    with _step("webhook"):
        secret = dialog360_secret(settings, bot.company, bot.phone)
        Dialog360(settings.dialog360_base, token).set_webhook(url, {SECRET_HEADER: secret})
    return ()


@contextlib.contextmanager
def _step(name: str) -> Iterator[None]:
    try:
        yield
    except ProviderError as error:
        raise LinkFailed(name, error) from error
