"""Clients of the management calls of Meta's Graph API and of 360dialog: numbers, tokens, subscriptions, registration.

Credentials are sent in headers and bodies, with one exception: Meta reads a token to be described from the query only.
So URLs are never shown or logged.
"""

import ipaddress
import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, urlsplit

import requests
from requests.auth import AuthBase

from bisnesctl.errors import BisnesError, ExitCode

#: Seconds to connect.
CONNECT_TIMEOUT_SECONDS = 5
#: Seconds to wait for an answer.
ANSWER_TIMEOUT_SECONDS = 15
#: Characters of a provider's message that are kept.
MAX_REASON_LENGTH = 500
#: Phone numbers on one page of an account's list.
NUMBERS_PER_PAGE = 100
#: Templates on one page of a list.
TEMPLATES_PER_PAGE = 200
#: Pages that are read, at most.
MAX_PAGES = 100
#: Fields that are requested of a number ("WhatsApp Business Phone Number").
NUMBER_FIELDS = (
    "verified_name,display_phone_number,quality_rating,status,name_status,code_verification_status,throughput,"
    "health_status,whatsapp_business_manager_messaging_limit"
)

#: Fields that are requested of a template.
TEMPLATE_FIELDS = "name,language,status,category,parameter_format,components"

JsonObject = dict[str, Any]

# At level DEBUG, urllib3 logs every URL with its query.
logging.getLogger("urllib3").setLevel(logging.INFO)


class ProviderError(BisnesError):
    """A call to a provider failed. See `bisnesctl bots verify`."""

    def __init__(self, message: str | None = None, code: str = "", advice: str = "") -> None:
        """`message`, `code`: from the provider; `advice`: what to do."""
        text = f"{message}{f' (code {code})' if code else ''}" if message else None
        super().__init__(f"{text}; {advice}" if text and advice else text)
        self.code = code
        self.reason = message or ""
        self.advice = advice


class ProviderRefused(ProviderError):
    """A provider refused a call. See `bisnesctl bots verify`."""

    exit_code = ExitCode.USAGE


class CredentialRefused(ProviderRefused):
    """A provider does not accept the credential. Enter a new one: `bisnesctl bots add … --token-stdin`."""


class ProviderUnavailable(ProviderError):
    """A provider is unavailable. Try again in a few minutes."""

    exit_code = ExitCode.UNAVAILABLE


@dataclass(frozen=True, slots=True)
class Callback:
    """The address for the webhooks of an account, instead of that of the app."""

    url: str
    verify_token: str


class _Credential(AuthBase):
    """Sets one header. Used as `auth`, so that a .netrc file cannot replace it."""

    def __init__(self, name: str, value: str) -> None:
        self._name = name
        self._value = value

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        request.headers[self._name] = self._value
        return request


class Graph:
    """A client of the Graph API with one access token.

    Every call raises `CredentialRefused`, `ProviderRefused` or `ProviderUnavailable`.
    """

    def __init__(self, base_url: str, version: str, token: str) -> None:
        """`base_url`: without a slash at its end; `version`: such as v26.0."""
        self._base = f"{base_url}/{version}"
        self._token = token

    def number(self, phone_number_id: str) -> JsonObject:
        """The number's `NUMBER_FIELDS`."""
        return self._ask("GET", _path(phone_number_id), params={"fields": NUMBER_FIELDS})

    def webhook_configuration(self, phone_number_id: str) -> JsonObject:
        """The webhook addresses of the number, its account and the app, by those names."""
        found = self._ask("GET", _path(phone_number_id), params={"fields": "webhook_configuration"})
        return as_object(found.get("webhook_configuration"))

    def phone_numbers(self, waba_id: str) -> Iterator[str]:
        """The ids of the account's numbers, read page by page."""
        found = self._pages(f"{_path(waba_id)}/phone_numbers", {"fields": "id", "limit": str(NUMBERS_PER_PAGE)})
        return (str(each["id"]) for each in found if "id" in each)

    def templates(self, waba_id: str) -> Iterator[JsonObject]:
        """The account's approved templates, read page by page ("WhatsApp Message Template")."""
        parameters = {"fields": TEMPLATE_FIELDS, "status": "APPROVED", "limit": str(TEMPLATES_PER_PAGE)}
        return self._pages(f"{_path(waba_id)}/message_templates", parameters)

    def _pages(self, path: str, parameters: dict[str, str]) -> Iterator[JsonObject]:
        for _ in range(MAX_PAGES):
            page = self._ask("GET", path, params=parameters)
            yield from as_objects(page.get("data"))
            paging = as_object(page.get("paging"))
            after = as_object(paging.get("cursors")).get("after")
            if not paging.get("next") or not isinstance(after, str) or after == parameters.get("after"):
                return
            parameters["after"] = after

    def debug_token(self, token: str) -> JsonObject:
        """Describes a token: is_valid, expires_at, data_access_expires_at, granular_scopes, app_id, …"""
        return as_object(self._ask("GET", "/debug_token", params={"input_token": token}, secrets=(token,)).get("data"))

    def subscribed_apps(self, waba_id: str) -> list[JsonObject]:
        """The apps that receive the account's webhooks: `whatsapp_business_api_data` and `override_callback_uri`."""
        return as_objects(self._ask("GET", f"{_path(waba_id)}/subscribed_apps").get("data"))

    def subscribe(self, waba_id: str, callback: Callback | None = None) -> None:
        """Subscribes the token's app to the account's webhooks, at its address or at `callback`."""
        form = callback and {"override_callback_uri": callback.url, "verify_token": callback.verify_token}
        secrets = (callback.verify_token,) if callback else ()
        self._ask("POST", f"{_path(waba_id)}/subscribed_apps", form=form or {}, secrets=secrets)

    def register(self, phone_number_id: str, pin: str) -> None:
        """Registers the number for the Cloud API. `pin`: the six digits of its two-step verification."""
        form = {"messaging_product": "whatsapp", "pin": pin}
        self._ask("POST", f"{_path(phone_number_id)}/register", form=form, secrets=(pin,))

    def _ask(
        self, method: str, path: str, params: dict[str, str] | None = None, form: dict[str, str] | None = None,
        secrets: tuple[str, ...] = (),
    ) -> JsonObject:  # fmt: skip
        auth = _Credential("Authorization", f"Bearer {self._token}")
        return _call("Meta", method, self._base + path, (self._token, *secrets), auth=auth, params=params, data=form)


class Dialog360:
    """A client of 360dialog with one API key. Its calls raise the errors of `Graph`."""

    def __init__(self, base_url: str, api_key: str) -> None:
        """`base_url`: without a slash at its end."""
        self._base = base_url
        self._key = api_key

    def health_status(self) -> JsonObject:
        """Whether the number can send, in the form of Meta's `health_status`."""
        return as_object(self._ask("GET", "/health_status").get("health_status"))

    def webhook(self) -> JsonObject:
        """The number's webhook: `url`, `headers`."""
        return self._ask("GET", "/v1/configs/webhook")

    def set_webhook(self, url: str, headers: dict[str, str]) -> None:
        """Sends the number's webhooks to `url`, each with these headers."""
        self._ask("POST", "/v1/configs/webhook", {"url": url, "headers": headers}, tuple(headers.values()))

    def templates(self) -> list[JsonObject]:
        """The number's templates of every status."""
        found: list[JsonObject] = []
        for _ in range(MAX_PAGES):
            path = f"/v1/configs/templates?limit={TEMPLATES_PER_PAGE}&offset={len(found)}"
            page = as_objects(self._ask("GET", path).get("waba_templates"))
            found += page
            if len(page) < TEMPLATES_PER_PAGE:
                break
        return found

    def _ask(self, method: str, path: str, body: JsonObject | None = None, secrets: tuple[str, ...] = ()) -> JsonObject:
        auth = _Credential("D360-API-KEY", self._key)
        return _call("360dialog", method, self._base + path, (self._key, *secrets), auth=auth, json=body)


def app_token(app_id: str, app_secret: str) -> str:
    """The access token of the app itself."""
    return f"{app_id}|{app_secret}"


def exchange_code(base_url: str, version: str, app_id: str, app_secret: str, code: str) -> str:
    """The access token for a code of the embedded signup, which is valid for 30 seconds and only once.

    Raises the errors of `Graph`.
    """
    form = {"client_id": app_id, "client_secret": app_secret, "code": code}
    found = _call("Meta", "POST", f"{base_url}/{version}/oauth/access_token", (app_secret, code), data=form)
    token = found.get("access_token")
    if not isinstance(token, str) or not token:
        raise ProviderUnavailable("Meta returned no token for the code", advice="repeat the signup")
    return token


def as_object(value: object) -> JsonObject:
    """The value if it is a JSON object, otherwise an empty one, because providers omit fields."""
    return value if isinstance(value, dict) else {}


def as_objects(value: object) -> list[JsonObject]:
    """The objects of a JSON list."""
    return [each for each in value if isinstance(each, dict)] if isinstance(value, list) else []


def _path(name: str) -> str:
    return f"/{quote(name, safe='')}"


def _call(provider: str, method: str, url: str, secrets: tuple[str, ...], **request: Any) -> JsonObject:
    with requests.Session() as session:
        session.trust_env = not _on_this_machine(url)  # never use a proxy for the sandbox
        try:
            answer = session.request(
                method, url, timeout=(CONNECT_TIMEOUT_SECONDS, ANSWER_TIMEOUT_SECONDS), allow_redirects=False, **request
            )
            status, body = answer.status_code, _json(answer)
        except requests.RequestException as error:
            # Without the cause: its text has the URL, which may contain a token.
            raise ProviderUnavailable(_describe(provider, error), advice="try again in a few minutes") from None
    return read_answer(provider, status, body, lambda text: _without(text, secrets))


def read_answer(provider: str, status: int, body: Any, clean: Callable[[str], str] = str) -> JsonObject:
    """The content of an answer; raises its error. `body`: its JSON; `clean`: removes secrets from a text."""
    if not isinstance(body, dict):
        advice = "check META_GRAPH_URL and DIALOG360_URL, and try again"
        raise ProviderUnavailable(f"the answer is not from {provider}'s API: HTTP {status}", f"http_{status}", advice)
    error, meta = body.get("error"), body.get("meta")
    if isinstance(error, dict):
        raise _graph_error(provider, status, error, clean)
    if isinstance(meta, dict) and not 200 <= _number(meta, "http_code", "httpCode", default=status) < 300:
        raise _dialog360_error(provider, status, meta, clean)
    if not 200 <= status < 300:
        raise _error_of(status)(f"{provider} says: HTTP {status}", f"http_{status}")
    return body


#: Codes of temporary errors (Graph API, "Handle errors"; WhatsApp, "Error codes", "Rate limits").
_TEMPORARY = {2, 4, 17, 32, 341, 613, 80007, 80008, 131000, 131016, 133004}
_CREDENTIAL = {0, 102, 190}
_PERMISSION = {3, 10, 131005, *range(200, 300)}
_ADVICE = {
    **dict.fromkeys(_CREDENTIAL, "create a new access token, preferably of a system user, and enter it for the bot"),
    **dict.fromkeys(
        _PERMISSION,
        "grant the token whatsapp_business_management and whatsapp_business_messaging, and its user the account",
    ),
    **dict.fromkeys(_TEMPORARY, "try again in a few minutes"),
    1: "check META_APP_ID and META_APP_SECRET",
    100: "check the ids of number and account, and that the token's user has access to them",
    101: "check META_APP_ID",
    2200: "check that PUBLIC_URL leads to the webhook receiver, and set META_VERIFY_TOKEN",
    133005: "use the PIN of the number's two-step verification; WhatsApp Manager can change it",
    133006: "verify the number in WhatsApp Manager first",
    133008: "too many wrong PINs: wait for the time that Meta states",
    133009: "wait a moment before entering a PIN again",
    133015: "the number was deleted a moment ago: wait five minutes",
    133016: "the number was registered too often: wait three days",
}
#: Subcodes of 100 with which Meta refuses a code of the embedded signup.
_CODE_REFUSED = {36007, 36008, 36009}


def _graph_error(provider: str, status: int, error: JsonObject, clean: Callable[[str], str]) -> ProviderError:
    code, subcode = _number(error, "code", default=-1), _number(error, "error_subcode", default=-1)
    data = error.get("error_data")
    details = data.get("details") if isinstance(data, dict) else data
    words = (error.get("message"), details, error.get("error_user_msg"))
    said = ": ".join(dict.fromkeys(each for each in words if isinstance(each, str) and each)) or f"HTTP {status}"
    advice = _ADVICE.get(code, "")
    if subcode in _CODE_REFUSED:
        advice = "a code is valid for 30 seconds and only once: repeat the signup"
    return _kind(code, status)(f"{provider} says: {clean(said)[:MAX_REASON_LENGTH]}", str(code), advice)


def _kind(code: int, status: int) -> type[ProviderError]:
    if code in _CREDENTIAL:
        return CredentialRefused
    if code in _TEMPORARY or (code not in _ADVICE and status >= 500):
        return ProviderUnavailable
    return ProviderRefused


_DIALOG360_ADVICE = {
    401: "create a new API key in the 360dialog Hub and enter it for the bot",
    403: "check DIALOG360_URL and the permissions of the API key",
    404: "check DIALOG360_URL",
    429: "try again in a few minutes",
}


def _dialog360_error(provider: str, status: int, meta: JsonObject, clean: Callable[[str], str]) -> ProviderError:
    code = _number(meta, "http_code", "httpCode", default=status)
    said = meta.get("developer_message", meta.get("developerMessage"))
    reason = clean(said)[:MAX_REASON_LENGTH] if isinstance(said, str) and said else f"HTTP {code}"
    return _error_of(code)(f"{provider} says: {reason}", f"360dialog_{code}", _DIALOG360_ADVICE.get(code, ""))


def _error_of(status: int) -> type[ProviderError]:
    if status == 401:
        return CredentialRefused
    return ProviderUnavailable if status == 429 or status >= 500 else ProviderRefused


def _number(found: JsonObject, *names: str, default: int) -> int:
    """The first of these fields that is an integer, also as text."""
    for value in (found.get(name) for name in names):
        if isinstance(value, int) and not isinstance(value, bool):
            return value
        if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) < 19:
            return int(value)
    return default


def _json(answer: requests.Response) -> Any:
    try:
        return answer.json()
    except requests.JSONDecodeError:
        return None


def _describe(provider: str, error: requests.RequestException) -> str:
    if isinstance(error, requests.Timeout):
        return f"{provider} did not answer within {ANSWER_TIMEOUT_SECONDS} seconds"
    if isinstance(error, requests.exceptions.SSLError):
        return f"{provider}'s certificate is not accepted"
    return f"{provider} cannot be reached"


def _without(text: str, secrets: tuple[str, ...]) -> str:
    """The text without secrets: providers repeat a malformed credential in their errors."""
    for secret in filter(None, secrets):
        text = text.replace(secret, "…")
    return text


def _on_this_machine(url: str) -> bool:
    host = urlsplit(url).hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
