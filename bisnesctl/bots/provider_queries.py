"""Asks a number's provider how the number is."""

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
from bisnesctl.bots.provider_report import Cause, Failure, Report
from bisnesctl.settings import Settings

#: Where Meta's webhooks come in, below the base URL of the webhooks.
META_PATH = "/api/meta/webhook"
#: What a token must be allowed to do.
SCOPES = ("whatsapp_business_messaging", "whatsapp_business_management")
#: The header in which 360dialog sends the secret of a number's webhook.
SECRET_HEADER = "X-Webhook-Secret"  # noqa: S105 - its name, not the secret


@dataclass(frozen=True, slots=True)
class ProviderBot:
    """A Meta or 360dialog number and what opens the door to it."""

    company: str
    phone: int
    type: str
    token: str = field(repr=False)
    phone_number_id: str = ""
    waba_id: str | None = None
    ready: bool = True  # False: its linking was not finished


def query_provider(settings: Settings, subject: ProviderBot) -> Report:
    """What the provider says of the number now; a question without an answer is among the report's failures."""
    ask = _dialog360 if subject.type == "360dialog" else _meta
    return ask(settings, subject)


def graph_of(settings: Settings, token: str) -> Graph:
    """Calls of the Graph API with this token."""
    return Graph(settings.graph_url, settings.meta_graph_version, token)


def dialog360_webhook(settings: Settings, company: str, phone: int) -> str | None:
    """Where 360dialog's webhooks of a number should go; None while nobody knows our address."""
    base = settings.webhook_base
    return base and f"{base}/api/360dialog/webhook/{quote(company, safe='')}/{phone}"


def dialog360_secret(settings: Settings, company: str, phone: int) -> str:
    """What proves that a webhook of a number comes from 360dialog."""
    return encryption.derived(settings.encryption_key.get_secret_value(), "360dialog webhook", company, str(phone))


def token_facts(settings: Settings, token: str) -> JsonObject:
    """What Meta knows of an access token. Without META_APP_ID the token is asked about itself.

    Raises `ProviderError`.
    """
    secret = settings.meta_app_secret.get_secret_value()
    asking = app_token(settings.meta_app_id, secret) if settings.meta_app_id and secret else token
    return graph_of(settings, asking).debug_token(token)


def accounts_of(facts: JsonObject) -> list[str]:
    """The business accounts that a token was made for, by `token_facts`."""
    for scope in as_objects(facts.get("granular_scopes")):
        targets = scope.get("target_ids")
        if scope.get("scope") == "whatsapp_business_management" and isinstance(targets, list):
            return [str(each) for each in targets]
    return []


def read_number(found: JsonObject) -> Report:
    """A number as Graph describes it."""
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


def read_health(found: JsonObject) -> Report:
    """Whether a number can send ("Messaging health status")."""
    entities = as_objects(found.get("entities"))
    return Report(can_send=_text(found, "can_send_message"), hints=tuple(dict.fromkeys(_hints(entities))))


def entity_id(found: JsonObject, kind: str) -> str | None:
    """The id of the PHONE_NUMBER or the WABA that a health status is about."""
    entities = as_objects(found.get("entities"))
    return next((_text(each, "id") for each in entities if each.get("entity_type") == kind), None)


def failure_of(about: str, error: ProviderError) -> Failure:
    """A call that went wrong, as the report has it."""
    cause = Cause.CREDENTIAL if isinstance(error, CredentialRefused) else Cause.REFUSED
    if isinstance(error, ProviderUnavailable):
        cause = Cause.UNAVAILABLE
    return Failure(about, cause, error.reason, error.code, error.advice)


def _meta(settings: Settings, subject: ProviderBot) -> Report:
    graph = graph_of(settings, subject.token)
    try:
        node = graph.number(subject.phone_number_id)
    except ProviderError as error:
        return Report(failures=(failure_of("number", error),))
    report = _with_account(subject, graph, node, _with_token(settings, subject.token, read_number(node)))
    return _with_webhooks(settings, subject, graph, report)


def _with_account(subject: ProviderBot, graph: Graph, node: JsonObject, report: Report) -> Report:
    """Whether the number is in its account. The list is asked for only if the number does not say so itself."""
    if not subject.waba_id:
        return report
    if entity_id(as_object(node.get("health_status")), "WABA") == subject.waba_id:
        return replace(report, in_account=True)
    with suppress(ProviderError):  # a token that may send need not be allowed to list numbers
        return replace(report, in_account=subject.phone_number_id in graph.phone_numbers(subject.waba_id))
    return report


def _with_token(settings: Settings, token: str, report: Report) -> Report:
    try:
        facts = token_facts(settings, token)
    except ProviderError as error:
        if not settings.meta_app_id:
            return report  # only an app may ask about any token
        failure = Failure(
            "token", Cause.REFUSED, f"when the token expires cannot be told: {error.reason}", error.code,
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


def _with_webhooks(settings: Settings, subject: ProviderBot, graph: Graph, report: Report) -> Report:
    expected = settings.webhook_base and settings.webhook_base + META_PATH
    report = replace(report, expected_url=expected)
    if not subject.waba_id:
        return report
    try:
        apps = graph.subscribed_apps(subject.waba_id)
    except ProviderError as error:
        failure = failure_of("webhooks", error)
        told = replace(failure, reason=f"whether webhooks come cannot be told: {failure.reason}")
        return replace(report, failures=(*report.failures, told))
    ours = [each for each in apps if _is_ours(each, settings.meta_app_id)]
    if not ours:
        return replace(report, subscribed=False)
    url = _text(ours[0], "override_callback_uri") or _configured_url(graph, subject.phone_number_id)
    return replace(report, subscribed=True, webhook_url=url)


def _is_ours(app: JsonObject, app_id: str) -> bool:
    return not app_id or str(as_object(app.get("whatsapp_business_api_data")).get("id")) == app_id


def _configured_url(graph: Graph, phone_number_id: str) -> str | None:
    """The address that counts: the number's own, else its account's, else the app's. None where Meta does not say."""
    with suppress(ProviderError):
        found = graph.webhook_configuration(phone_number_id)
        names = ("phone_number", "whatsapp_business_account", "application")
        return next((url for name in names if (url := _text(found, name))), None)
    return None


def _dialog360(settings: Settings, subject: ProviderBot) -> Report:
    dialog360 = Dialog360(settings.dialog360_base, subject.token)
    try:
        health = dialog360.health_status()
    except ProviderError as error:
        return Report(failures=(failure_of("number", error),))
    report = replace(
        read_health(health), phone_number_id=entity_id(health, "PHONE_NUMBER"), waba_id=entity_id(health, "WABA")
    )
    expected = dialog360_webhook(settings, subject.company, subject.phone)
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
            yield ": ".join(filter(None, words)) or "no reason is given"


def _text(found: JsonObject, name: str) -> str | None:
    value: Any = found.get(name)
    return value.replace("\0", "") if isinstance(value, str) and value else None


def _moment(found: JsonObject, name: str) -> int | None:
    value = found.get(name)
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None
