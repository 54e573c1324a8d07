"""The body of a request, read completely on the event loop before any thread sees it."""

import asyncio
import io
import tempfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import IO

from services.http_server import refusal
from services.http_server.asgi import Receive, Scope, content_length

#: Bytes of a body that are held in memory; a larger one is spooled to a temporary file.
SPOOL_BYTES = 64 << 10
#: Bytes in a request's body without a file, at most.
MAX_BODY = 1 << 20
#: Threads that write and read temporary files; a slow disk delays bodies, never the event loop.
DISK_THREADS = 4


@dataclass(frozen=True, slots=True)
class Body:
    """A complete body. Its receiver closes the file."""

    file: IO[bytes]  # at its beginning
    #: Bytes of the body; the file has fewer if the body was too large to be read.
    size: int


class BodyReader:
    """Reads bodies; those above `SPOOL_BYTES` are spooled to disk."""

    def __init__(self) -> None:
        self._disk = ThreadPoolExecutor(DISK_THREADS, "bodies")

    def close(self) -> None:
        """End the threads."""
        self._disk.shutdown(wait=False)

    async def read_request(self, scope: Scope, receive: Receive, limit: int) -> Body:
        """The body of a request; one whose declared length exceeds `limit` is not read.

        Raises `Refusal` if the client disconnects or the disk refuses.
        """
        declared = content_length(scope)
        if declared is not None and declared > limit:
            return Body(io.BytesIO(), declared)
        return await self.read(receive, limit)

    async def read(self, receive: Receive, limit: int) -> Body:
        """The body; reading ends soon after `limit` bytes. Raises `Refusal`, see `read_request`."""
        held = bytearray()
        spool: IO[bytes] | None = None
        size, more = 0, True
        try:
            while more and size <= limit:
                part, more = await next_part(receive)
                size += len(part)
                held += part
                if len(held) > SPOOL_BYTES:
                    spool = await self._spool(spool, held)
                    held = bytearray()
            if spool is None:
                return Body(io.BytesIO(held), size)
            await self._spool(spool, held)
            spool.seek(0)
        except BaseException:
            if spool is not None:
                spool.close()
            raise
        return Body(spool, size)

    async def _spool(self, spool: IO[bytes] | None, part: bytearray) -> IO[bytes]:
        try:
            return await asyncio.get_running_loop().run_in_executor(self._disk, _append, spool, part)
        except OSError as error:
            raise refusal.body_unavailable(error.strerror or str(error)) from error


def _append(spool: IO[bytes] | None, part: bytearray) -> IO[bytes]:
    file = spool or tempfile.TemporaryFile(buffering=0)  # noqa: SIM115 - the reader's
    try:
        rest = memoryview(part)
        while rest:
            rest = rest[file.write(rest) :]
    except OSError:
        file.close()
        raise
    return file


async def read_small(receive: Receive, declared: str | None, limit: int) -> bytes:
    """A body that is held in memory. `declared`: its Content-Length.

    Raises `Refusal` (413, or the client disconnected).
    """
    if int(declared or "0") > limit:
        raise refusal.too_large(limit)
    body, more = await next_part(receive)
    if more:
        parts = bytearray(body)
        while more and len(parts) <= limit:
            part, more = await next_part(receive)
            parts += part
        body = bytes(parts)
    if len(body) > limit:
        raise refusal.too_large(limit)
    return body


async def next_part(receive: Receive) -> tuple[bytes, bool]:
    """The next part of a body, and whether there may be more. Raises `Refusal` if the client disconnected."""
    event = await receive()
    if event["type"] == "http.disconnect":
        raise refusal.disconnected()
    return event.get("body", b""), event.get("more_body", False)
