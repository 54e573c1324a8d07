"""Waits for changes in a folder, without looking at it again and again (inotify(7))."""

import contextlib
import ctypes
import os
import select
from pathlib import Path

# Events of inotify(7): a file was written, moved into the folder, moved out of it, or removed.
_EVENTS = 0x00000008 | 0x00000080 | 0x00000040 | 0x00000200
#: Bytes of events that are read at once.
_BUFFER_BYTES = 4096


class FolderWatch:
    """The changes in one folder, which may be removed and made again."""

    def __init__(self, folder: Path) -> None:
        """Raises `OSError` if the user has too many watches."""
        self._folder = os.fsencode(folder)
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._events = self._libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
        if self._events < 0:
            raise _last_error()

    def begin(self) -> None:
        """Notes changes from now on; a repetition changes nothing. Raises `OSError` if there is no such folder."""
        if self._libc.inotify_add_watch(self._events, self._folder, _EVENTS) < 0:
            raise _last_error()

    def wait(self, seconds: float) -> None:
        """Waits until something has changed since `begin` or the last call, at most this long."""
        select.select([self._events], [], [], seconds)
        with contextlib.suppress(BlockingIOError):
            while os.read(self._events, _BUFFER_BYTES):
                pass

    def close(self) -> None:
        """Ends the watch."""
        os.close(self._events)


def _last_error() -> OSError:
    number = ctypes.get_errno()
    return OSError(number, os.strerror(number))
