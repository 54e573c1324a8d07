"""Queries providers for reports on phone numbers."""

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any
from urllib.parse import quote

from bisnesctl import encryption
from bisnesctl.bots.graph_api import (
    CredentialRefused,
    Dialog360,
    Graph,
    JsonObject,
    ProviderError,
    ProviderUnavailable,
    app_token,
    as_object,
    as_objects,
)
from bisnesctl.bots.provider_report import Cause, Failure, ProviderReport
from bisnesctl.settings import Settings

#: The path of the receiver of Meta's webhooks.
META_PATH = "/api/meta/webhook"
#: Permissions that a token needs.
SCOPES = ("whatsapp_business_messaging", "whatsapp_business_management")
#: The header in which 360dialog sends the secret of a number's webhook.
SECRET_HEADER = "X-Webhook-Secret"  # noqa: S105 - the name of a header, not a secret


@dataclass(frozen=True, slots=True)
class ProviderBot:
    """A bot of Meta or 360dialog with its credential."""

    company: str
    phone: int
    type: str
    token: str = field(repr=False)
    phone_number_id: str = ""
    waba_id: str | None = None
    ready: bool = True  # False: its linking is unfinished


def query_provider(settings: Settings, bot: ProviderBot) -> ProviderReport:
    """Queries the provider; the report lists queries that failed."""
    ask = _dialog360 if bot.type == "360dialog" else _meta
    return ask(settings, bot)


def graph_of(settings: Settings, token: str) -> Graph:
    """A client of the Graph API with this token."""
    return Graph(settings.graph_url, settings.meta_graph_version, token)


def dialog360_webhook(settings: Settings, company: str, phone: int) -> str | None:
    """The URL for 360dialog's webhooks of a bot; None if our public address is unknown."""
    base = settings.webhook_base
    return base and f"{base}/api/360dialog/webhook/{quote(company, safe='')}/{phone}"


def derived_dialog360_secrets(settings: Settings, company: str, phone: int) -> list[str]:
    """The secrets that prove that a webhook of a bot comes from 360dialog, unless its secret was rotated.

    They follow from ENCRYPTION_KEY and from those before it.
    """
    keys = [key for key in settings.decryption_keys if key]
    return [encryption.derived(key, "360dialog webhook", company, str(phone)) for key in keys]


def token_facts(settings: Settings, token: str) -> JsonObject:
    """Meta's description of an access token. Without META_APP_ID the token queries itself.

    Raises `ProviderError`.
    """
    secret = settings.meta_app_secret.get_secret_value()
    asking = app_token(settings.meta_app_id, secret) if settings.meta_app_id and secret else token
    return graph_of(settings, asking).debug_token(token)


def accounts_of(facts: JsonObject) -> list[str]:
    """The business accounts that a token was created for, according to `token_facts`."""
    for scope in as_objects(facts.get("granular_scopes")):
        targets = scope.get("target_ids")
        if scope.get("scope") == "whatsapp_business_management" and isinstance(targets, list):
            return [str(each) for each in targets]
    return []


def read_number(found: JsonObject) -> ProviderReport:
    """The report from the Graph API's description of a number."""
    return replace(
        read_health(as_object(found.get("health_status"))),
        name=_text(found, "verified_name"),
        display_number=_text(found, "display_phone_number"),
        quality=_text(found, "quality_rating"),
        status=_text(found, "status"),
        name_status=_text(found, "name_status"),
        verification=_text(found, "code_verification_status"),
        throughput=_text(as_object(found.get("throughput")), "level"),
        limit=_text(found, "whatsapp_business_manager_messaging_limit"),
    )


def read_health(found: JsonObject) -> ProviderReport:
    """Whether a number can send ("Messaging health status")."""
    entities = as_objects(found.get("entities"))
    return ProviderReport(can_send=_text(found, "can_send_message"), hints=tuple(dict.fromkeys(_hints(entities))))


def entity_id(found: JsonObject, kind: str) -> str | None:
    """The id of the PHONE_NUMBER or the WABA that a health status is about."""
    entities = as_objects(found.get("entities"))
    return next((_text(each, "id") for each in entities if each.get("entity_type") == kind), None)


def failure_of(about: str, error: ProviderError) -> Failure:
    """The failure for a call that raised this error."""
    cause = Cause.CREDENTIAL if isinstance(error, CredentialRefused) else Cause.REFUSED
    if isinstance(error, ProviderUnavailable):
        cause = Cause.UNAVAILABLE
    return Failure(about, cause, error.reason, error.code, error.advice)


def _meta(settings: Settings, bot: ProviderBot) -> ProviderReport:
    graph = graph_of(settings, bot.token)
    try:
        node = graph.number(bot.phone_number_id)
    except ProviderError as error:
        return ProviderReport(failures=(failure_of("number", error),))
    report = _with_account(bot, graph, node, _with_token(settings, bot.token, read_number(node)))
    return _with_webhooks(settings, bot, graph, report)


def _with_account(bot: ProviderBot, graph: Graph, node: JsonObject, report: ProviderReport) -> ProviderReport:
    """Adds whether the number belongs to its account; lists the account's numbers only if necessary."""
    if not bot.waba_id:
        return report
    if entity_id(as_object(node.get("health_status")), "WABA") == bot.waba_id:
        return replace(report, in_account=True)
    with suppress(ProviderError):  # a token that may send is not always allowed to list numbers
        return replace(report, in_account=bot.phone_number_id in graph.phone_numbers(bot.waba_id))
    return report


def _with_token(settings: Settings, token: str, report: ProviderReport) -> ProviderReport:
    try:
        facts = token_facts(settings, token)
    except ProviderError as error:
        if not settings.meta_app_id:
            return report  # only an app may query any token
        failure = Failure(
            "token", Cause.REFUSED, f"the expiry of the token is unknown: {error.reason}", error.code,
            "check META_APP_ID and META_APP_SECRET",
        )  # fmt: skip
        return replace(report, failures=(*report.failures, failure))
    scopes = facts.get("scopes")
    return replace(
        report,
        token_valid=facts["is_valid"] if isinstance(facts.get("is_valid"), bool) else None,
        token_expires_at=_moment(facts, "expires_at"),
        data_access_expires_at=_moment(facts, "data_access_expires_at"),
        missing_scopes=tuple(each for each in SCOPES if isinstance(scopes, list) and each not in scopes),
    )


def _with_webhooks(settings: Settings, bot: ProviderBot, graph: Graph, report: ProviderReport) -> ProviderReport:
    expected = settings.webhook_base and settings.webhook_base + META_PATH
    report = replace(report, expected_url=expected)
    if not bot.waba_id:
        return report
    try:
        apps = graph.subscribed_apps(bot.waba_id)
    except ProviderError as error:
        failure = failure_of("webhooks", error)
        failure = replace(failure, reason=f"the subscription of webhooks is unknown: {failure.reason}")
        return replace(report, failures=(*report.failures, failure))
    ours = [each for each in apps if _is_ours(each, settings.meta_app_id)]
    if not ours:
        return replace(report, subscribed=False)
    url = _text(ours[0], "override_callback_uri") or _configured_url(graph, bot.phone_number_id)
    return replace(report, subscribed=True, webhook_url=url)


def _is_ours(app: JsonObject, app_id: str) -> bool:
    return not app_id or str(as_object(app.get("whatsapp_business_api_data")).get("id")) == app_id


def _configured_url(graph: Graph, phone_number_id: str) -> str | None:
    """The URL in force: that of the number, else of its account, else of the app; None if it is unknown."""
    with suppress(ProviderError):
        found = graph.webhook_configuration(phone_number_id)
        names = ("phone_number", "whatsapp_business_account", "application")
        return next((url for name in names if (url := _text(found, name))), None)
    return None


def _dialog360(settings: Settings, bot: ProviderBot) -> ProviderReport:
    dialog360 = Dialog360(settings.dialog360_base, bot.token)
    try:
        health = dialog360.health_status()
    except ProviderError as error:
        return ProviderReport(failures=(failure_of("number", error),))
    report = replace(
        read_health(health), phone_number_id=entity_id(health, "PHONE_NUMBER"), waba_id=entity_id(health, "WABA")
    )
    expected = dialog360_webhook(settings, bot.company, bot.phone)
    try:
        url = _text(dialog360.webhook(), "url")
    except ProviderError as error:
        failure = failure_of("webhooks", error)
        return replace(report, expected_url=expected, failures=(failure,))
    return replace(report, expected_url=expected, webhook_url=url, subscribed=bool(url))


def _hints(entities: list[JsonObject]) -> Iterator[str]:
    for entity in entities:
        more = entity.get("additional_info")
        yield from (each for each in (more if isinstance(more, list) else [more]) if isinstance(each, str) and each)
        for error in as_objects(entity.get("errors")):
            words = (_text(error, "error_description"), _text(error, "possible_solution"))
            yield ": ".join(filter(None, words)) or "no reason given"


def _text(found: JsonObject, name: str) -> str | None:
    value: Any = found.get(name)
    return value.replace("\0", "") if isinstance(value, str) and value else None


def _moment(found: JsonObject, name: str) -> int | None:
    value = found.get(name)
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None
