"""What the API answers about numbers, accounts and tokens (Graph API reference, "WhatsApp Business Phone Number",
"WhatsApp Business Account", "Debug-Token"), out of what the simulator was told; without that everything is well."""

import hmac
import re
import secrets
import time
from collections.abc import Mapping
from typing import Any

import requests

from services.sandbox.meta import templates
from services.sandbox.meta.registry import ACCOUNT_ID, Facts, Registry
from services.sandbox.request_fields import GraphError, check_product, required

#: Seconds that a code of the embedded signup lives.
CODE_LIFE = 30
#: Seconds that a receiver may take for the handshake.
HANDSHAKE_TIMEOUT = 5
#: Numbers on a page of an account's list, where none is asked for.
PAGE_SIZE = 25
#: What a token must be allowed to send, and what it may do where it was not told otherwise.
MESSAGING = "whatsapp_business_messaging"
SCOPES = ("whatsapp_business_management", MESSAGING)

_PIN = re.compile("[0-9]{6}", re.ASCII)
_SUGGESTION = "The simulator was told so: POST /_sandbox/number takes it back"


def default_number(number: str) -> Facts:
    """A number about which nothing was told: it is well."""
    return {
        "id": number,
        "verified_name": "Sandbox",
        "display_phone_number": f"+{number}",
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


#: Fields that exist, and are left out of answers where they have no value.
_WITHOUT_VALUE = {
    "conversational_automation", "quality_score", "new_name_status", "is_on_biz_app", "is_preverified_number",
    "search_visibility", "eligibility_for_api_business_global_search", "certificate", "new_certificate",
    "country_code", "country_dial_code",
}  # fmt: skip
_SHOWN = ("verified_name", "code_verification_status", "display_phone_number", "quality_rating", "throughput", "id")


def health(number: str, account: str, app_id: str, told: Facts) -> Facts:
    """`health_status`: as it was told whole, or made from `can_send_message` for the number."""
    if "health_status" in told:
        return dict(told["health_status"])
    can_send = told.get("can_send_message", "AVAILABLE")
    entity: Facts = {"entity_type": "PHONE_NUMBER", "id": number, "can_send_message": can_send}
    if can_send == "BLOCKED":
        about = "The simulated number may not send"
        entity["errors"] = [{"error_code": 141000, "error_description": about, "possible_solution": _SUGGESTION}]
    if can_send == "LIMITED":
        entity["additional_info"] = [f"The simulated number is limited. {_SUGGESTION}"]
    others = {"WABA": account, "BUSINESS": "100000000000003", "APP": app_id}
    well = [{"entity_type": kind, "id": name, "can_send_message": "AVAILABLE"} for kind, name in others.items()]
    return {"can_send_message": can_send, "entities": [entity, *well]}


class Management:
    """The calls that are not about messages and media. Their arguments are as they come in queries and bodies."""

    def __init__(self, registry: Registry, app_secret: str) -> None:
        self._registry, self._secret = registry, app_secret

    def number(self, number: str) -> Facts:
        """All fields of a number. Raises `GraphError` for one that was told not to exist."""
        told = self._registry.facts("number", number)
        if not told.get("exists", True):
            raise GraphError(100, f"there is no object with the id {number}, or no permission to see it", 400, 33)
        self._registry.know("number", number)
        account = self._registry.account_of(number)
        fields = default_number(number) | told
        return fields | {"health_status": health(number, account, self._registry.app_id, told)}

    def health_of(self, number: str) -> Facts:
        """How a number is, as 360dialog tells it."""
        return select(self.number(number), "health_status", ())

    def node(self, name: str, fields: str | None) -> Facts:
        """A number, or an account that is known; `fields`: the names asked for, with commas between them."""
        if name == ACCOUNT_ID or self._registry.facts("account", name):
            return select(self._account(name), fields, ("id", "name"))
        return select(self.number(name), fields, _SHOWN)

    def _account(self, account: str) -> Facts:
        default = {
            "id": account, "name": "Sandbox", "currency": "USD", "timezone_id": "1",
            "account_review_status": "APPROVED", "message_template_namespace": "sandbox",
        }  # fmt: skip
        return default | self._registry.facts("account", account)

    def numbers(self, account: str, asked: Mapping[str, str]) -> Facts:
        """A page of an account's numbers: those that the simulator was told of or asked about."""
        told = self._registry.all("number")
        found = sorted(
            name for name in told if self._registry.account_of(name) == account and told[name].get("exists", True)
        )
        rest = [name for name in found if name > asked.get("after", "")]
        page = rest[: int(asked.get("limit", PAGE_SIZE))]
        data = [select(self.number(name), asked.get("fields"), _SHOWN) for name in page]
        if not page:
            return {"data": data}
        paging: Facts = {"cursors": {"before": page[0], "after": page[-1]}}
        if len(rest) > len(page):
            paging["next"] = f"{account}/phone_numbers?after={page[-1]}"
        return {"data": data, "paging": paging}

    def templates(self, account: str, name: str | None) -> Facts:
        """The message templates, which all accounts share; with a name those of that name."""
        known = templates.catalogue(self._registry)
        return {"data": [each.described() for each in known if name in (None, each.name)]}

    def debug_token(self, token: str) -> Facts:
        """What a token may do and until when; 0: it does not expire."""
        told = self._registry.facts("token", token)
        valid = not token.startswith("expired") and self._registry.token_works(token)
        scopes = told.get("scopes", list(SCOPES))
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
                **told,
                "is_valid": valid,
            }
        }

    def subscriptions(self, account: str) -> Facts:
        """The apps that get the account's webhooks: ours, unless it was taken away."""
        told = self._registry.facts("subscription", account)
        if not told.get("subscribed", True):
            return {"data": []}
        app = {"id": self._registry.app_id, "name": "Sandbox", "link": "https://www.facebook.com/games/?app_id=0"}
        override = {key: told[key] for key in ("override_callback_uri",) if key in told}
        return {"data": [{"whatsapp_business_api_data": app, **override}]}

    def subscribe(self, account: str, fields: dict[str, Any]) -> Facts:
        """Send the account's webhooks to the app, or to an address of its own after a handshake with it."""
        override = fields.get("override_callback_uri")
        if override is not None:
            shake_hands(str(override), required(fields, "verify_token"))
        self._registry.tell("subscription", account, {"subscribed": True, "override_callback_uri": override})
        return {"success": True}

    def unsubscribe(self, account: str) -> Facts:
        """Send the account's webhooks nowhere."""
        self._registry.tell("subscription", account, {"subscribed": False, "override_callback_uri": None})
        return {"success": True}

    def register(self, number: str, fields: dict[str, Any]) -> Facts:
        """Register a number with its PIN, by which it may send."""
        check_product(fields)
        pin, known = required(fields, "pin"), self.number(number).get("pin")
        if not _PIN.fullmatch(pin):
            raise GraphError(100, "pin must have six digits")
        if known not in (None, pin):
            raise GraphError(133005, "the PIN is not the number's", 400)
        self._registry.tell("number", number, {"registered": True, "status": "CONNECTED", "pin": pin})
        return {"success": True}

    def deregister(self, number: str) -> Facts:
        """Take the number's registration back: it can no longer send."""
        self._registry.tell("number", number, {"registered": False, "status": "DISCONNECTED"})
        return {"success": True}

    def make_code(self, told: Facts) -> Facts:
        """A code as the embedded signup gives it to the browser. `told`: the `token` that it is worth."""
        code, token = secrets.token_urlsafe(24), str(told.get("token") or f"EAAsandbox{secrets.token_urlsafe(24)}")
        life = float(told.get("expires_in", CODE_LIFE))
        self._registry.tell("code", code, {"token": token, "until": time.time() + life})
        return {"code": code, "expires_in": life}

    def exchange(self, asked: Facts) -> Facts:
        """The token for a code, once. Raises `GraphError` 100 where the code is too old."""
        if not hmac.compare_digest(str(asked.get("client_secret")).encode(), self._secret.encode()):
            raise GraphError(1, "client_secret is not the app's secret", 400)
        if not asked.get("client_id"):
            raise GraphError(101, "client_id is missing", 400)
        code = self._registry.forget("code", str(asked.get("code")))
        if not code:
            raise GraphError(100, "this authorization code is not known, or was used", 400, 36009)
        if code["until"] < time.time():
            raise GraphError(100, "this authorization code has expired", 400, 36007)
        return {"access_token": code["token"], "token_type": "bearer"}


def select(found: Facts, fields: str | None, default: tuple[str, ...]) -> Facts:
    """The fields that were asked for. Raises `GraphError` 100 for one that does not exist."""
    wanted = [each.strip() for each in fields.split(",")] if fields else list(default)
    if unknown := [name for name in wanted if name not in found and name not in _WITHOUT_VALUE]:
        raise GraphError(100, f"tried to read a field that does not exist: {unknown[0]}")
    return {name: found[name] for name in dict.fromkeys([*wanted, "id"]) if name in found}


def shake_hands(url: str, verify_token: str) -> None:
    """Ask a receiver for the challenge, as the API does before it sends webhooks. Raises `GraphError` 2200."""
    challenge = secrets.token_hex(8)
    asked = {"hub.mode": "subscribe", "hub.verify_token": verify_token, "hub.challenge": challenge}
    with requests.Session() as session:
        session.trust_env = False
        try:
            answer = session.get(url, params=asked, timeout=HANDSHAKE_TIMEOUT)
        except (requests.RequestException, ValueError) as error:
            raise GraphError(2200, f"the callback cannot be reached: {error}", 400) from error
    if answer.status_code != 200 or answer.text != challenge:
        raise GraphError(2200, f"the callback did not give the challenge back, but HTTP {answer.status_code}", 400)
