"""A provider that answers management calls as it is told, and remembers what it was asked."""

import json
import threading
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qsl, urlsplit

NUMBER, ACCOUNT, APP = "1055", "77", "4711"
#: A number that is well, as Graph describes it.
WELL = {
    "id": NUMBER,
    "verified_name": "Kedai Aina",
    "display_phone_number": "+60 12-345 6789",
    "quality_rating": "GREEN",
    "status": "CONNECTED",
    "name_status": "APPROVED",
    "throughput": {"level": "STANDARD"},
    "health_status": {"can_send_message": "AVAILABLE", "entities": []},
}
EXPIRED = {"error": {"message": "Session has expired", "code": 190, "error_subcode": 463}}
SCOPES = ["whatsapp_business_management", "whatsapp_business_messaging"]


@dataclass
class Asked:
    """One call."""

    method: str
    path: str
    query: dict
    headers: dict
    text: str

    @property
    def form(self):
        return dict(parse_qsl(self.text))

    @property
    def json(self):
        return json.loads(self.text)


class Provider:
    """Answers each path below /v26.0 or below /d360; what nobody told it of does not exist."""

    def __init__(self):
        self.asked, self.answers = [], {}
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def _answer(self):
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

            def log_message(self, *_):
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()

    @property
    def settings(self):
        """The lines of `.env` that lead here."""
        return {"META_GRAPH_URL": self.url, "DIALOG360_URL": f"{self.url}/d360"}

    def _answer(self, method, path):
        unknown = {"error": {"message": "Unsupported request", "code": 100, "error_subcode": 33}}
        found = self.answers.get((method, path), (400, unknown))
        return found() if callable(found) else found

    def tell(self, path, answer, status=None, method="GET"):
        """Answer like this from now on; an error has status 400 unless another is told."""
        self.answers[method, path] = (status or (400 if "error" in answer else 200), answer)

    def be_well(self):
        """A number, its account, and a token that never expires."""
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

    def calls(self, method=None):
        """The paths that were asked, in their order."""
        return [each.path for each in self.asked if method in (None, each.method)]

    def close(self):
        self._server.shutdown()
        self._server.server_close()


DIALOG360_HEALTH = {
    "can_send_message": "AVAILABLE",
    "entities": [
        {"entity_type": "PHONE_NUMBER", "id": "3601", "can_send_message": "AVAILABLE"},
        {"entity_type": "WABA", "id": "3602", "can_send_message": "AVAILABLE"},
    ],
}
