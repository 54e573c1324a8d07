"""The Graph API's calls about numbers, accounts and tokens (Graph API reference, "WhatsApp Business Phone Number",
"WhatsApp Business Account", "Debug-Token"). Objects without facts in the registry are healthy."""

import hmac
import re
import secrets
import time
from collections.abc import Mapping, Sequence, Set
from typing import Any

import requests

from services.sandbox.meta.accounts import templates
from services.sandbox.meta.accounts.paging import page_of
from services.sandbox.meta.registry import ACCOUNT_ID, Facts, Registry, shown
from services.sandbox.meta.request_fields import GraphError, check_product, required

#: How long a code of the embedded signup is valid.
CODE_LIFE_SECONDS = 30
#: How long a receiver of webhooks may take to answer the challenge.
CHALLENGE_TIMEOUT_SECONDS = 5
#: Templates on a page of 360dialog's list, if the request does not say.
DIALOG360_PAGE_SIZE = 1000
#: The scope that a token needs to send messages.
MESSAGING_SCOPE = "whatsapp_business_messaging"
#: The scopes of tokens without facts.
DEFAULT_SCOPES = ("whatsapp_business_management", MESSAGING_SCOPE)

_PIN = re.compile("[0-9]{6}", re.ASCII)
_SUGGESTION = "This was set with POST /_sandbox/number, which can also undo it"


def default_number(number: str, phone_number: str) -> Facts:
    """The fields of a number without facts: it is healthy."""
    return {
        "id": number,
        "verified_name": "Sandbox",
        "display_phone_number": shown(phone_number),
        "quality_rating": "GREEN",
        "status": "CONNECTED",
        "name_status": "APPROVED",
        "code_verification_status": "VERIFIED",
        "platform_type": "CLOUD_API",
        "account_mode": "SANDBOX",
        "throughput": {"level": "STANDARD"},
        "messaging_limit_tier": "TIER_1K",
        "whatsapp_business_manager_messaging_limit": "TIER_1K",
        "is_official_business_account": False,
        "is_pin_enabled": True,
        "last_onboarded_time": "2026-01-01T00:00:00+0000",
        "webhook_configuration": {},
    }


#: Fields that exist and have no value: answers omit them.
_WITHOUT_VALUE = {
    "conversational_automation", "quality_score", "new_name_status", "is_on_biz_app", "is_preverified_number",
    "search_visibility", "eligibility_for_api_business_global_search", "certificate", "new_certificate",
    "country_code", "country_dial_code",
}  # fmt: skip
_DEFAULT_FIELDS = (
    "verified_name",
    "code_verification_status",
    "display_phone_number",
    "quality_rating",
    "throughput",
    "id",
)


_ACCOUNT_FIELDS_WITHOUT_VALUE = {
    "marketing_messages_lite_api_status", "marketing_messages_onboarding_status", "on_behalf_of_business_info",
    "health_status", "subscribed_apps", "owner_business_info", "disable_marketing_messages_on_cloud_api",
    "primary_funding_id", "purchase_order_number", "primary_business_location",
}  # fmt: skip
_TEMPLATE_FIELDS = ("name", "parameter_format", "components", "language", "status", "category", "id")
_TEMPLATE_FIELDS_WITHOUT_VALUE = {
    "quality_score", "rejected_reason", "sub_category", "previous_category", "correct_category",
    "library_template_name", "message_send_ttl_seconds", "cta_url_link_tracking_opted_out", "degrees_of_freedom_spec",
}  # fmt: skip
#: The parameters that select templates by a field.
_TEMPLATE_FILTERS = ("name", "status", "category", "language")


def health(number: str, account: str, app_id: str, facts: Facts) -> Facts:
    """`health_status`: the fact of this name, or else derived from the fact `can_send_message`."""
    if "health_status" in facts:
        return dict(facts["health_status"])
    can_send = facts.get("can_send_message", "AVAILABLE")
    entity: Facts = {"entity_type": "PHONE_NUMBER", "id": number, "can_send_message": can_send}
    if can_send == "BLOCKED":
        description = "The simulated number may not send"
        entity["errors"] = [{"error_code": 141000, "error_description": description, "possible_solution": _SUGGESTION}]
    if can_send == "LIMITED":
        entity["additional_info"] = [f"The simulated number is limited. {_SUGGESTION}"]
    others = {"WABA": account, "BUSINESS": "100000000000003", "APP": app_id}
    healthy = [{"entity_type": kind, "id": name, "can_send_message": "AVAILABLE"} for kind, name in others.items()]
    return {"can_send_message": can_send, "entities": [entity, *healthy]}


class Management:
    """The calls that are not about messages and media. Their arguments come from queries and bodies, unchecked."""

    def __init__(self, registry: Registry, app_secret: str) -> None:
        self._registry = registry
        self._secret = app_secret

    def number(self, number: str) -> Facts:
        """All fields of a number. Raises `GraphError` if its fact `exists` is false."""
        facts = self._registry.facts("number", number)
        if not facts.get("exists", True):
            raise GraphError(100, f"there is no object with the id {number}, or no permission to see it", 400, 33)
        self._registry.ensure("number", number)
        account = self._registry.account_of(number)
        health_status = health(number, account, self._registry.app_id, facts)
        return default_number(number, self._registry.phone_number(number)) | facts | {"health_status": health_status}

    def health_of(self, number: str) -> Facts:
        """The health of a number, as 360dialog answers it."""
        return select(self.number(number), "health_status", ())

    def node(self, name: str, fields: str | None) -> Facts:
        """A number, or a known account. `fields`: the requested names, separated by commas."""
        if name == ACCOUNT_ID or self._registry.facts("account", name):
            default = ("id", "name", "timezone_id", "message_template_namespace")
            return select(self._account(name), fields, default, _ACCOUNT_FIELDS_WITHOUT_VALUE)
        if template := templates.with_id(self._registry, name):
            return select_of_template(template.described(), fields)
        return select(self.number(name), fields, _DEFAULT_FIELDS)

    def _account(self, account: str) -> Facts:
        default = {
            "id": account, "name": "Sandbox", "currency": "USD", "timezone_id": "1",
            "account_review_status": "APPROVED", "message_template_namespace": "sandbox", "status": "ACTIVE",
            "business_verification_status": "verified", "country": "US", "ownership_type": "SELF",
            "is_enabled_for_insights": True,
        }  # fmt: skip
        return default | self._registry.facts("account", account)

    def numbers(self, account: str, query: Mapping[str, str], url: str) -> Facts:
        """A page of an account's numbers."""
        of_account = self._registry.numbers_of(account)
        fields = query.get("fields")
        return page_of([(name, select(self.number(name), fields, _DEFAULT_FIELDS)) for name in of_account], query, url)

    def templates(self, account: str, query: Mapping[str, str], url: str) -> Facts:
        """A page of the message templates, which all accounts share."""
        elements = []
        for template in templates.catalogue(self._registry):
            facts = template.described()
            if all(query.get(name) in (None, facts[name]) for name in _TEMPLATE_FILTERS):
                elements.append((template.key, select_of_template(facts, query.get("fields"))))
        page = page_of(sorted(elements, key=lambda element: element[0]), query, url)
        return page | _summary(query.get("summary"), elements)

    def dialog360_templates(self, query: Mapping[str, str]) -> Facts:
        """The same, as 360dialog lists them: all, by an offset. Raises `GraphError`."""
        try:
            offset, limit = int(query.get("offset", "0")), int(query.get("limit", str(DIALOG360_PAGE_SIZE)))
        except ValueError:
            raise GraphError(100, "offset and limit must be numbers") from None
        found = sorted(templates.catalogue(self._registry), key=lambda each: each.key)
        page = [each.described() for each in found[max(offset, 0) :][: max(limit, 0)]]
        return {
            "count": len(page), "limit": limit, "offset": offset, "total": len(found),
            "waba_templates": [each | {"status": each["status"].lower()} for each in page],
        }  # fmt: skip

    def debug_token(self, token: str) -> Facts:
        """The scopes of a token, and when it expires; 0: never."""
        facts = self._registry.facts("token", token)
        valid = not token.startswith("expired") and self._registry.is_valid_token(token)
        scopes = facts.get("scopes", list(DEFAULT_SCOPES))
        return {
            "data": {
                "app_id": self._registry.app_id,
                "type": "SYSTEM_USER",
                "application": "Sandbox",
                "data_access_expires_at": 0,
                "expires_at": 0,
                "issued_at": 1767225600,
                "scopes": scopes,
                "granular_scopes": [{"scope": scope} for scope in scopes],
                "user_id": "100000000000004",
                **facts,
                "is_valid": valid,
            }
        }

    def subscriptions(self, account: str) -> Facts:
        """The apps that get the account's webhooks: ours, unless it unsubscribed."""
        facts = self._registry.facts("subscription", account)
        if not facts.get("subscribed", True):
            return {"data": []}
        app = {"id": self._registry.app_id, "name": "Sandbox", "link": "https://www.facebook.com/games/?app_id=0"}
        override = {key: facts[key] for key in ("override_callback_uri",) if key in facts}
        return {"data": [{"whatsapp_business_api_data": app, **override}]}

    def subscribe(self, account: str, fields: dict[str, Any]) -> Facts:
        """Send the account's webhooks to the app, or to another URL that answers a challenge."""
        override = fields.get("override_callback_uri")
        if override is not None:
            verify_receiver(str(override), required(fields, "verify_token"))
        self._registry.update("subscription", account, {"subscribed": True, "override_callback_uri": override})
        return {"success": True}

    def unsubscribe(self, account: str) -> Facts:
        """Send the account's webhooks nowhere."""
        self._registry.update("subscription", account, {"subscribed": False, "override_callback_uri": None})
        return {"success": True}

    def register(self, number: str, fields: dict[str, Any]) -> Facts:
        """Register a number with its PIN, so that it can send."""
        check_product(fields)
        pin, known = required(fields, "pin"), self.number(number).get("pin")
        if not _PIN.fullmatch(pin):
            raise GraphError(100, "pin must have six digits")
        if known not in (None, pin):
            raise GraphError(133005, "the PIN is not the number's", 400)
        self._registry.update("number", number, {"registered": True, "status": "CONNECTED", "pin": pin})
        return {"success": True}

    def deregister(self, number: str) -> Facts:
        """Cancel the registration of a number, so that it can no longer send."""
        self._registry.update("number", number, {"registered": False, "status": "DISCONNECTED"})
        return {"success": True}

    def make_code(self, fields: Facts) -> Facts:
        """A code as the embedded signup gives it to the browser. `fields` may have its `token` and `expires_in`."""
        code, token = secrets.token_urlsafe(24), str(fields.get("token") or f"EAAsandbox{secrets.token_urlsafe(24)}")
        life = float(fields.get("expires_in", CODE_LIFE_SECONDS))
        self._registry.update("code", code, {"token": token, "until": time.time() + life})
        return {"code": code, "expires_in": life}

    def exchange(self, fields: Facts) -> Facts:
        """Exchange a code for its token, once. Raises `GraphError` 100 if the code is unknown or has expired."""
        if not hmac.compare_digest(str(fields.get("client_secret")).encode(), self._secret.encode()):
            raise GraphError(1, "client_secret is not the app's secret", 400)
        if not fields.get("client_id"):
            raise GraphError(101, "client_id is missing", 400)
        code = self._registry.remove("code", str(fields.get("code")))
        if not code:
            raise GraphError(100, "this authorization code is unknown or was used", 400, 36009)
        if code["until"] < time.time():
            raise GraphError(100, "this authorization code has expired", 400, 36007)
        return {"access_token": code["token"], "token_type": "bearer"}


def _summary(fields: str | None, elements: Sequence[Any]) -> Facts:
    """The requested counts of a list of templates."""
    if not fields:
        return {}
    counts: Facts = {
        "total_count": len(elements), "message_template_count": len(elements), "message_template_limit": 6000,
        "are_translations_complete": True,
    }  # fmt: skip
    return {"summary": {name: value for name, value in counts.items() if name in fields.split(",")}}


def select_of_template(facts: Facts, fields: str | None) -> Facts:
    """The requested fields of a template."""
    return select(facts, fields, _TEMPLATE_FIELDS, _TEMPLATE_FIELDS_WITHOUT_VALUE)


def select(
    values: Facts, fields: str | None, default: tuple[str, ...], without_value: Set[str] = _WITHOUT_VALUE
) -> Facts:
    """The requested fields. Raises `GraphError` 100 for one that does not exist."""
    wanted = [name.strip() for name in fields.split(",")] if fields else list(default)
    if unknown := [name for name in wanted if name not in values and name not in without_value]:
        raise GraphError(100, f"tried to read a field that does not exist: {unknown[0]}")
    return {name: values[name] for name in dict.fromkeys([*wanted, "id"]) if name in values}


def verify_receiver(url: str, verify_token: str) -> None:
    """Send a challenge to a receiver, as the API does before it sends webhooks. Raises `GraphError` 2200."""
    challenge = secrets.token_hex(8)
    query = {"hub.mode": "subscribe", "hub.verify_token": verify_token, "hub.challenge": challenge}
    with requests.Session() as session:
        session.trust_env = False
        try:
            answer = session.get(url, params=query, timeout=CHALLENGE_TIMEOUT_SECONDS)
        except (requests.RequestException, ValueError) as error:
            raise GraphError(2200, f"the callback cannot be reached: {error}", 400) from error
    if answer.status_code != 200 or answer.text != challenge:
        raise GraphError(2200, f"the callback did not return the challenge but HTTP {answer.status_code}", 400)
