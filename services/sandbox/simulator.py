"""The simulator: a request to send goes through the API's rules and its behaviours and is remembered."""

import time
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from services.sandbox import graph, webhooks
from services.sandbox.behaviour import Behaviour, Behaviours
from services.sandbox.graph import GraphError, Message
from services.sandbox.store import Receipt, Report, Store
from services.sandbox.webhooks import Reporter


@dataclass(frozen=True, slots=True)
class Answer:
    """What the caller gets: an HTTP status with JSON after `delay` seconds, or, `cut`, a closed connection."""

    http: int
    body: dict[str, Any]
    delay: float = 0.0
    cut: bool = False


class Simulator:
    """Everything that the sandbox is, without its addresses."""

    def __init__(self, store: Store, reporter: Reporter) -> None:
        self.store, self._reporter = store, reporter
        self.behaviours = Behaviours()

    def send(self, phone_number_id: str, authorization: str | None, body: bytes) -> Answer:
        """Take a request to send, or refuse it, and remember either."""
        try:
            graph.check_token(authorization)
            message = graph.read_message(body)
        except GraphError as error:
            return self._refuse(phone_number_id, Message("", "", "", None), error)
        return self._behave(self.behaviours.take(message), phone_number_id, message)

    def reset(self) -> None:
        """Forget all messages, reports and behaviours."""
        self.behaviours.clear()
        self.store.clear()

    def _behave(self, behaviour: Behaviour, phone_number_id: str, message: Message) -> Answer:
        delay = behaviour.delay_ms / 1000
        if behaviour.cut == "before_accept":
            self._remember(phone_number_id, message, "cut")
            return Answer(503, {}, delay, cut=True)
        try:
            self.behaviours.check(behaviour, phone_number_id, message.recipient)
        except GraphError as error:
            return self._refuse(phone_number_id, message, error, delay)
        wamid = graph.new_id()
        reports = webhooks.reports(message, wamid, phone_number_id, behaviour, time.time())
        self._remember(phone_number_id, message, "cut" if behaviour.cut else "200", wamid, reports)
        self._reporter.wake()
        return Answer(200, graph.success(message, wamid), delay, cut=behaviour.cut is not None)

    def _refuse(self, phone_number_id: str, message: Message, error: GraphError, delay: float = 0.0) -> Answer:
        self._remember(phone_number_id, message, str(error.code))
        return Answer(error.http, error.envelope(), delay)

    def _remember(
        self, phone_number_id: str, message: Message, answer: str, wamid: str | None = None,
        reports: Iterable[Report] = (),
    ) -> None:  # fmt: skip
        receipt = Receipt(
            time.time(), phone_number_id, message.recipient, message.text, message.callback_data, wamid, answer
        )  # fmt: skip
        self.store.add(receipt, reports)
