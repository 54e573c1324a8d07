"""Where a number's provider listens and how it is shown the key: Meta itself, or 360dialog with the same API."""

from urllib.parse import quote

from bisnesctl.settings import Settings
from services.message import Bot

#: The connection type of numbers that are reached through 360dialog.
DIALOG360 = "360dialog"


class Provider:
    """The addresses and the header of every number."""

    def __init__(self, settings: Settings) -> None:
        self._graph = f"{settings.graph_url}/{settings.meta_graph_version}"
        self._dialog360 = settings.dialog360_base

    def url(self, bot: Bot, path: str) -> str:
        """The address of `messages` or `media` of the number; 360dialog knows the number by its key."""
        if bot.connection_type == DIALOG360:
            return f"{self._dialog360}/{path}"
        return f"{self._graph}/{bot.phone_number_id}/{path}"

    def number(self, bot: Bot) -> tuple[str, str]:
        """The address that tells of the number itself, and the header line for it."""
        if bot.connection_type == DIALOG360:
            return f"{self._dialog360}/health_status", self.header(bot)
        return f"{self._graph}/{bot.phone_number_id}?fields=id", self.header(bot)

    def file_url(self, bot: Bot, media_id: str) -> str:
        """The address that tells of a file, one that came in or was uploaded."""
        base = self._dialog360 if bot.connection_type == DIALOG360 else self._graph
        return f"{base}/{quote(media_id, safe='')}"

    def header(self, bot: Bot) -> str:
        """The header line that holds the credential; to be shown nowhere."""
        if bot.connection_type == DIALOG360:
            return f"D360-API-KEY: {bot.access_token.value}"
        return f"Authorization: Bearer {bot.access_token.value}"
