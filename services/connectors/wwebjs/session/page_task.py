"""What a session does with its page while it works, piece by piece."""

from typing import Protocol

from services.connectors.wwebjs.browser.page import Page


class PageTask(Protocol):
    """Something that needs the page. The thread that owns the browser calls it, and nobody else."""

    def turn(self, page: Page) -> bool:
        """Do one piece of what is due; returns whether there was any.

        May raise `PageLost` and `CallTimeout`: the session then sees to its page, and asks again.
        """

    def paused(self) -> None:
        """The session does not work any more; called once, by the same thread."""
