"""Live updates: what a stream sends, and when it ends."""

import asyncio
import json

import pytest

from bisnesctl.people.roles import Role
from services.dashboard import access, live
from services.dashboard.live import LiveStreams
from services.database.connection import DatabaseUnavailable


class Client:
    """A browser that reads a stream."""

    def __init__(self, visitor, page):
        self.sent = []
        self.changed = asyncio.Event()
        self.gone = asyncio.Event()
        headers = [(b"host", b"127.0.0.1:3004"), (b"cookie", f"__Host-bisnes={visitor.token}".encode())]
        self.scope = {
            "type": "http", "method": "GET", "path": live.PATH, "query_string": f"page={page}".encode(),
            "headers": headers,
        }  # fmt: skip

    async def receive(self):
        await self.gone.wait()
        return {"type": "http.disconnect"}

    async def send(self, message):
        self.sent.append(message)
        self.changed.set()

    async def events(self, count):
        """The first events, once there is this number of them."""
        while len(found := self.read()) < count:
            self.changed.clear()
            await asyncio.wait_for(self.changed.wait(), 60)
        return found

    def read(self):
        body = b"".join(each.get("body", b"") for each in self.sent).decode()
        blocks = [block.split("\n") for block in body.split("\n\n") if block.startswith("event: ")]
        return [(name.removeprefix("event: "), json.loads(data.removeprefix("data: "))) for name, data in blocks]


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(live, "PERIOD_SECONDS", 0.05)


def watch(app, visitor, page, use):
    """Has a client follow a page while `use` looks at it."""

    async def run():
        client, streams = Client(visitor, page), LiveStreams(app, "/ui/")
        serving = asyncio.ensure_future(streams.serve(client.scope, client.receive, client.send))
        try:
            await use(client)
        finally:
            client.gone.set()
            await serving
            streams.close()

    asyncio.run(run())


@pytest.mark.parametrize(
    "page", ["/ui/", "/ui/processes", "/ui/commands", "/ui/alerts", "/ui/events", "/ui/numbers", "/ui/chats"]
)
def test_each_live_page_is_sent(app, signed_in, page):
    async def use(client):
        ((name, _),) = await client.events(1)
        assert name == "update"

    watch(app, signed_in(), page, use)


def test_a_page_that_fails_for_a_moment_stays_and_says_why_until_it_is_made_again(app, signed_in, monkeypatch):
    async def use(client):
        await client.events(1)
        with monkeypatch.context() as patch:
            patch.setitem(app.view_functions, "commands.index", access.needs(Role.VIEWER)(lambda: 1 / 0))
            await client.events(2)
            await asyncio.sleep(0.5)
            ((_, first), (name, stale)) = client.read()
            assert name == "stale"
            assert "bisnesctl logs dashboard" in stale["reason"]
        assert (await client.events(3))[2] == ("update", first)

    watch(app, signed_in(Role.VIEWER), "/ui/commands", use)


def test_a_stream_says_as_text_that_postgresql_is_down(app, signed_in, monkeypatch):
    def refuse():
        raise DatabaseUnavailable("it <stopped>")

    async def use(client):
        ((name, stale),) = await client.events(1)
        assert name == "stale"
        assert stale["reason"].startswith("PostgreSQL does not answer, and this page needs it. it <stopped>")

    monkeypatch.setattr(app.extensions["dashboard"].sources, "connection", refuse)
    for page in ("/ui/numbers", "/ui/chats/0128/60123456789"):
        watch(app, signed_in(name=f"person-{len(page)}"), page, use)


def test_a_stream_sends_the_live_part_once_until_it_changes_and_ends_with_the_sign_in(app, signed_in, people):
    async def use(client):
        (first,) = await client.events(1)
        assert first[0] == "update"
        assert "<html" not in first[1]["html"]
        await asyncio.sleep(0.5)
        assert len(client.read()) == 1
        people.end_all(people.of_token(visitor.token).person.name)
        assert (await client.events(2))[1][0] == "end"

    visitor = signed_in(Role.VIEWER)
    watch(app, visitor, "/ui/commands", use)


@pytest.mark.parametrize("page", ["", "https://evil.example/ui/", "//evil/ui/x", "/health", "/ui/live"])
def test_other_addresses_are_refused(app, signed_in, page):
    async def use(client):
        await asyncio.wait_for(client.changed.wait(), 60)
        assert client.sent[0]["status"] == 400

    watch(app, signed_in(Role.VIEWER), page, use)


def test_a_page_that_the_person_may_not_open_sends_nothing_of_it(app, signed_in):
    async def use(client):
        assert [name for name, _ in await client.events(1)] == ["end"]

    watch(app, signed_in(Role.OPERATOR, "0128"), "/ui/processes", use)
