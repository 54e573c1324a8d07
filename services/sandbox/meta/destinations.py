"""The receivers of the webhooks of a number or an account."""

from collections.abc import Sequence
from dataclasses import dataclass

from services.sandbox.meta.registry import Registry


@dataclass(frozen=True, slots=True)
class Destination:
    """A receiver of webhooks. If it has several URLs, the first one that accepts a webhook gets it."""

    urls: tuple[str, ...]
    headers: tuple[tuple[str, str], ...] = ()
    signed: bool = True


class Destinations:
    """Meta's webhooks go to the app or to the account's override; 360dialog's go, unsigned, to the URL of the key."""

    def __init__(self, registry: Registry, app_urls: Sequence[str]) -> None:
        """`app_urls`: the app's receiver."""
        self._registry = registry
        self._app = Destination(tuple(app_urls))

    def account(self, number: str, account: str) -> str:
        """The business account that a webhook names: this one, or else the number's."""
        return account or self._registry.account_of(number)

    def metadata(self, number: str) -> dict[str, str]:
        """The `metadata` of a webhook about a number."""
        return self._registry.metadata(number)

    def find(self, number: str, account: str) -> Destination | None:
        """The receiver for a number, or, if that is empty, for an account. None: nobody subscribed."""
        if number and self._registry.is_dialog360(number):
            return self._dialog360(number)
        subscription = self._registry.facts("subscription", self.account(number, account))
        if not subscription.get("subscribed", True):
            return None
        override = subscription.get("override_callback_uri")
        return Destination((override,)) if override else self._app

    def _dialog360(self, number: str) -> Destination | None:
        webhook = self._registry.facts("webhook", number)
        if not webhook.get("url"):
            return None
        return Destination((webhook["url"],), tuple(webhook.get("headers", {}).items()), signed=False)
