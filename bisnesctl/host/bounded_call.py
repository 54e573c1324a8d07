"""Calls with a time limit, of what may never answer: a failing disk, a name server."""

import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Generic, TypeVar

T = TypeVar("T")


class BoundedCall(Generic[T]):
    """Calls a function on a thread of its own, which does not delay the end of the program."""

    def __init__(self, function: Callable[[], T], name: str = "bounded-call") -> None:
        """It begins now. `name`: of the thread."""
        self._function = function
        self._answer: Future[T] = Future()
        threading.Thread(target=self._run, name=name, daemon=True).start()

    def within(self, seconds: float) -> T:
        """The function's result. Raises what the function raises, and `TimeoutError` if it takes longer from now on."""
        return self._answer.result(max(seconds, 0.0))

    def _run(self) -> None:
        try:
            self._answer.set_result(self._function())
        except BaseException as error:
            self._answer.set_exception(error)
