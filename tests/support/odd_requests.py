"""HTTP requests that no client should send, made from a seed: odd methods, paths, queries, headers and bodies."""

import random
from collections.abc import Iterator

from tests.support.api import CHAT, COMPANY, KEY

_METHODS = (
    *(b"GET", b"GET", b"POST", b"POST", b"POST", b"PUT", b"PATCH", b"DELETE", b"HEAD", b"OPTIONS", b"TRACE"),
    *(b"PROPFIND", b"M-SEARCH", b"CONNECT", b"get", b"G\x00T", b"", b"X" * 100),
)
_BASE = f"/api/v2/messages/%s/{COMPANY}/{CHAT}"
_PATHS = (
    *(path.encode() for path in map(_BASE.__mod__, ("text", "template", "image", "document", "nothing"))),
    *(f"/api/v2/messages/{COMPANY}/{CHAT}/wamid.x==".encode(), f"/api/messages/react/{COMPANY}/x/y".encode()),
    *(
        b"/api/bots",
        b"/api/bots/0128/0",
        b"/api/bots/0128/9999999999999999999999",
        b"/api/webhooks",
        b"/api/webhooks/x",
    ),
    *(
        b"/api/sessions",
        b"/api/sessions/0128/0/qr",
        b"/api/v2/media/0128/x",
        b"/health",
        b"/health/all",
        b"/metrics/api",
    ),
    *(b"/api/meta/webhook", b"/api/360dialog/webhook/0128/0"),
    *(b"/api/360dialog/webhook/%00/99999999999999999999", b"/"),
    *(b"/openapi/openapi.json", b"/openapi/swagger", b"*", b"http://x/health", b"//health", b"/health%2F..", b"/%00"),
    *(b"/v21.0/106540352242922/messages", b"/v21.0/1/media", b"/v1/999999999999999999999999", b"/360dialog/messages"),
    *(
        b"/_sandbox/say",
        b"/_sandbox/wa/scan",
        b"/_wa/",
        b"/_wa/client/%2e%2e",
        b"/\xff\xfe",
        b"/a b",
        b"/" + b"x" * 9000,
    ),
)
_PIECES = (
    b"%00",
    b"%FF",
    b"%ED%A0%80",
    b"/..",
    b"//",
    b";",
    b"%2f",
    b"%",
    b"%zz",
    b"\xc3\xa4",
    b"%0d%0a",
    b"\\",
    b"'",
    b"%1b",
)
_QUERIES = (
    *(b"", b"", b"", b"?", b"?wait=1_0", b"?wait=%D9%A1", b"?limit=-1", b"?limit=1e9"),
    *(b"?cursor=%00", b"?company=%00"),
    *(
        b"?hub.mode=subscribe&hub.verify_token=%ff&hub.challenge=%0d%0a",
        b"?a=1&a=2",
        b"?=",
        b"?&&&",
        b"?%ff=%ff",
        b"?\xff",
    ),
    *(
        b"?access_token=%00",
        b"?format=..",
        b"?" + b"a&" * 3000,
        b"?phoneIndex=99999999999999999999",
        b"?seq=x&version=y",
    ),
)
_HEADERS = (
    *(b"Content-Type", b"Content-Type", b"Content-Length", b"Transfer-Encoding", b"Expect", b"Upgrade", b"Range"),
    *(
        b"If-None-Match",
        b"If-Modified-Since",
        b"If-Range",
        b"Accept",
        b"Accept-Encoding",
        b"Cookie",
        b"Origin",
        b"Host",
    ),
    *(
        b"Authorization",
        b"X-Api-Key",
        b"Idempotency-Key",
        b"Last-Event-ID",
        b"X-Hub-Signature-256",
        b"X-Webhook-Secret",
    ),
    *(
        b"D360-API-KEY",
        b"SCRIPT_NAME",
        b"Path-Info",
        b"X-Forwarded-For",
        b"Forwarded",
        b"X-HTTP-Method-Override",
        b"Trailer",
    ),
    *(b"b@d", b"", b"x y", b"\xff", b"Proxy", b"Content_Length", b"Connection", b"Keep-Alive", b"Sec-WebSocket-Key"),
)
_VALUES = (
    *(
        b"",
        b" ",
        b"x",
        b"\xff\xfe",
        b"\x00",
        b"\x7f",
        b"\t",
        b"a,b",
        b'"',
        b"-1",
        b"+1",
        b"1e1",
        b"0x10",
        b"1, 1",
        b"1" * 40,
    ),
    *(b"application/json", b"application/json; charset=evil", b"application/json; charset=utf-16", b"text/plain"),
    *(b"multipart/form-data", b"multipart/form-data; boundary=", b"multipart/form-data; boundary=b", b"image/png"),
    *(
        b"multipart/form-data; boundary=" + b"b" * 300,
        b"application/x-www-form-urlencoded",
        b"chunked",
        b"gzip",
        b"identity",
    ),
    *(
        b"bytes=0-",
        b"bytes=9-1",
        b"bytes=-0",
        b"bytes=0-0,1-1",
        b"chars=1",
        b"Basic !!!",
        b"Bearer",
        b"Bearer \xff",
        b"*",
    ),
    *(
        b"sha256=",
        b"sha256=" + b"0" * 64,
        b"100-continue",
        b"websocket",
        b"h2c",
        b"close",
        b"[::1",
        b"x:99999999",
        b"null",
    ),
    *(
        b"x" * 5000,
        b"x" * 40_000,
        b"Thu, 99 Foo 0000 99:99:99 GMT",
        b"a=b; " * 200,
        b'W/"x"',
        b"text/*;q=x",
        b"http://x",
    ),
)
_BODIES = (
    *(
        b"",
        b"",
        b"{}",
        b"[]",
        b"null",
        b"{",
        b'"x"',
        b"\xff",
        b"\x00" * 100,
        b'{"message":"x"}',
        b'{"message":"\\ud800"}',
    ),
    *(b'{"a":' * 2000, b"[" * 5000, b'{"message":"x","phoneIndex":1e400}', b'{"entry":[{"changes":[{"value":7}]}]}'),
    *(
        b"--b\r\n\r\n--b--\r\n",
        b'--b\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\nx\r\n--b--\r\n',
    ),
    *(
        b"--b\r\nContent-Disposition: form-data\r\n\r\n" * 50,
        b"a=%ff&a=%00&" * 500,
        b'{"url":"http://[","events":["x"]}',
    ),
    *(
        b'{"url":"http://x:99999","events":["message"]}',
        b'{"phoneNumber":"+1"}',
        b'{"number":[],"text":{}}',
        b"x" * 70_000,
    ),
)


def odd_requests(seed: int, count: int) -> Iterator[tuple[bytes, bytes]]:
    """The method and the bytes of each request. Most are complete, so that they are answered at once."""
    choose = random.Random(seed)
    for _ in range(count):
        method, path = choose.choice(_METHODS), choose.choice(_PATHS)
        if choose.random() < 0.4:
            place = choose.randrange(len(path) + 1)
            path = path[:place] + choose.choice(_PIECES) + path[place:]
        lines = [b"%b %b HTTP/1.1" % (method, path + choose.choice(_QUERIES)), b"Host: 127.0.0.1", b"Connection: close"]
        lines += [b"X-Api-Key: " + KEY.encode()] if choose.random() < 0.7 else []
        lines += [
            b"%b: %b" % (choose.choice(_HEADERS), choose.choice(_VALUES))
            for _ in range(choose.choice((0, 0, 1, 1, 2, 4)))
        ]
        body = choose.choice(_BODIES)
        lines += [b"Content-Length: %d" % len(body)] if choose.random() < 0.95 else []
        yield method, b"\r\n".join(lines) + b"\r\n\r\n" + body
