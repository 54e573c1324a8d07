"""What the signals that end a program do to a command at work."""

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator
from types import FrameType


@contextlib.contextmanager
def as_interrupt() -> Iterator[None]:
    """SIGTERM and the end of the terminal raise KeyboardInterrupt, as Ctrl-C does."""
    with _handled((signal.SIGTERM, signal.SIGHUP), signal.default_int_handler):
        yield


@contextlib.contextmanager
def as_event() -> Iterator[threading.Event]:
    """An event that is set by Ctrl-C, SIGTERM and the end of the terminal; further ones change nothing."""
    asked = threading.Event()
    with _handled((signal.SIGINT, signal.SIGTERM, signal.SIGHUP), lambda *_: asked.set()):
        yield asked


@contextlib.contextmanager
def _handled(signals: tuple[signal.Signals, ...], handler: Callable[[int, FrameType | None], object]) -> Iterator[None]:
    before = {each: signal.signal(each, handler) for each in signals}
    try:
        yield
    finally:
        for each, old in before.items():
            signal.signal(each, old)
