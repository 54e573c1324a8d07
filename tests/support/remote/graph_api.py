"""A provider with canned answers to management calls. It records the calls."""

import json
import threading
from collections.abc import Callable
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl, urlsplit

Json = dict[str, Any]
#: HTTP status and JSON, or bytes that are no JSON.
Answer = tuple[int, Json | bytes]

NUMBER = "1055"
ACCOUNT = "77"
APP = "4711"
#: A healthy number, as Graph describes it.
WELL: Json = {
    "id": NUMBER,
    "verified_name": "Kedai Aina",
    "display_phone_number": "+60 12-345 6789",
    "quality_rating": "GREEN",
    "status": "CONNECTED",
    "name_status": "APPROVED",
    "throughput": {"level": "STANDARD"},
    "health_status": {"can_send_message": "AVAILABLE", "entities": []},
}
EXPIRED: Json = {"error": {"message": "Session has expired", "code": 190, "error_subcode": 463}}
SCOPES = ["whatsapp_business_management", "whatsapp_business_messaging"]


@dataclass
class Asked:
    """One call."""

    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    text: str

    @property
    def form(self) -> dict[str, str]:
        return dict(parse_qsl(self.text))

    @property
    def json(self) -> Any:
        return json.loads(self.text)


class Provider:
    """Answers paths below /v26.0 and below /d360 as `tell` sets them. Other paths do not exist."""

    def __init__(self) -> None:
        self.asked: list[Asked] = []
        self.answers: dict[tuple[str, str], Answer | Callable[[], Answer]] = {}  # by method and path
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def _answer(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0)).decode()
                parts = urlsplit(self.path)
                path = parts.path.removeprefix("/v26.0")
                outer.asked.append(
                    Asked(self.command, path, dict(parse_qsl(parts.query)), dict(self.headers.items()), body)
                )
                status, answer = outer._answer(self.command, path)
                content = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            do_GET = do_POST = _answer

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()

    @property
    def settings(self) -> dict[str, str]:
        """The settings that lead to this provider."""
        return {"META_GRAPH_URL": self.url, "DIALOG360_URL": f"{self.url}/d360"}

    def _answer(self, method: str, path: str) -> Answer:
        unknown: Json = {"error": {"message": "Unsupported request", "code": 100, "error_subcode": 33}}
        found = self.answers.get((method, path), (400, unknown))
        return found() if callable(found) else found

    def tell(self, path: str, answer: Json | bytes, status: int | None = None, method: str = "GET") -> None:
        """Set the answer of a path. Errors have the status 400 unless another one is given."""
        is_error = isinstance(answer, dict) and "error" in answer
        self.answers[method, path] = (status or (400 if is_error else 200), answer)

    def be_well(self) -> None:
        """Set answers of a healthy number, its account, and a token that never expires."""
        self.tell(f"/{NUMBER}", WELL)
        self.tell("/debug_token", {"data": {"is_valid": True, "expires_at": 0, "app_id": APP, "scopes": SCOPES}})
        self.tell(f"/{ACCOUNT}/phone_numbers", {"data": [{"id": NUMBER}]})
        app = {"whatsapp_business_api_data": {"id": APP, "name": "Bots"}}
        self.tell(f"/{ACCOUNT}/subscribed_apps", {"data": [app]})
        for path in (f"/{ACCOUNT}/subscribed_apps", f"/{NUMBER}/register"):
            self.tell(path, {"success": True}, method="POST")
        self.tell("/oauth/access_token", {"access_token": "EAAG-of-the-signup"}, method="POST")
        self.tell("/d360/health_status", {"health_status": DIALOG360_HEALTH})
        self.tell("/d360/v1/configs/webhook", {"url": "https://bots.example.com/api/360dialog/webhook/0128/0"})
        self.tell("/d360/v1/configs/webhook", {}, method="POST")

    def calls(self, method: str | None = None) -> list[str]:
        """The paths that were requested, in order."""
        return [each.path for each in self.asked if method in (None, each.method)]

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


DIALOG360_HEALTH: Json = {
    "can_send_message": "AVAILABLE",
    "entities": [
        {"entity_type": "PHONE_NUMBER", "id": "3601", "can_send_message": "AVAILABLE"},
        {"entity_type": "WABA", "id": "3602", "can_send_message": "AVAILABLE"},
    ],
}
