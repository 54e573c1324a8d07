"""Why a file was not fetched."""


class FetchRefused(Exception):
    """It cannot be fetched: a private address, too large, another protocol, an answer such as 404."""

    def __init__(self, reason: str, status: int | None = None) -> None:
        super().__init__(reason)
        self.status = status  # the answer's, if that was the reason


class FetchTooLarge(FetchRefused):
    """The file has more bytes than are allowed."""


class FetchFailed(Exception):
    """It could not be fetched for now: no connection, too slow, an answer such as 503."""
