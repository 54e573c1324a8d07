"""Where the webhooks of a number or an account go."""

from collections.abc import Sequence
from dataclasses import dataclass

from services.sandbox.meta.registry import Registry


@dataclass(frozen=True, slots=True)
class Destination:
    """The first of the URLs that takes a webhook gets it."""

    urls: tuple[str, ...]
    headers: tuple[tuple[str, str], ...] = ()
    signed: bool = True


class Destinations:
    """Meta's go to the app, or where the account was told; 360dialog's where the number's key was told, unsigned."""

    def __init__(self, registry: Registry, app_urls: Sequence[str]) -> None:
        """`app_urls`: where the app is told, of which the first that takes a webhook gets it."""
        self._registry, self._app = registry, Destination(tuple(app_urls))

    def account(self, number: str, account: str) -> str:
        """The business account that a webhook is about, where it may be the number's."""
        return account or self._registry.account_of(number)

    def of(self, number: str, account: str) -> Destination | None:
        """Where what concerns a number goes, or, without one, an account; None: nobody asked to be told."""
        if number and self._registry.is_dialog360(number):
            return self._dialog360(number)
        told = self._registry.facts("subscription", self.account(number, account))
        if not told.get("subscribed", True):
            return None
        override = told.get("override_callback_uri")
        return Destination((override,)) if override else self._app

    def _dialog360(self, number: str) -> Destination | None:
        told = self._registry.facts("webhook", number)
        if not told.get("url"):
            return None
        return Destination((told["url"],), tuple(told.get("headers", {}).items()), signed=False)
