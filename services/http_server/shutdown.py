"""Actions at the first signal to end: the server itself reports it only after open answers are complete."""

import asyncio
import signal
import threading
from collections.abc import Callable
from typing import Any


def on_termination(action: Callable[[], None]) -> None:
    """Run this on the current event loop when the process gets a signal to end."""
    if threading.current_thread() is not threading.main_thread():
        return  # a server inside a test
    loop = asyncio.get_running_loop()
    for signum in (signal.SIGTERM, signal.SIGINT):
        signal.signal(signum, _both(loop, action, signal.getsignal(signum)))


def _both(loop: asyncio.AbstractEventLoop, action: Callable[[], None], then: Any) -> Callable[[int, Any], None]:
    def handle(signum: int, frame: Any) -> None:
        if not loop.is_closed():
            loop.call_soon_threadsafe(action)
        if callable(then):
            then(signum, frame)

    return handle
