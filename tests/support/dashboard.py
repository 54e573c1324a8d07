"""The dashboard of a deployment: its pages, people who sign in, and tables with many rows."""

from tests.support.browser import PageBrowser
from tests.support.deployment import Deployment

#: The addresses of all reading pages below `/ui`, in a deployment with the number 0100-0 and the sandbox.
PAGES = (
    "/", "/processes", "/processes/api-0", "/processes/api-0/log", "/numbers", "/numbers/0100-0", "/chats",
    "/chats/0100/60123456789", "/chats/0100/60123456789/templates",
    "/chats/0100/60123456789/templates?template=order_update&language=en", "/messages", "/queue", "/dead-letters",
    "/webhooks", "/sandbox", "/sandbox/customer?number=0100-0&sender=60123456789", "/alerts", "/events", "/rollout",
    "/commands", "/audit", "/keys", "/settings", "/account", "/people",
)  # fmt: skip
PASSWORD = "correct horse battery"
#: Messages that failed, and numbers of WhatsApp Web.
FAILED, SESSIONS = 10_000, 50

#: Rows of `SESSIONS` numbers.
MANY_NUMBERS = f"""
INSERT INTO phone_configs (company_id, phone_index, connection_type)
SELECT '0500', n, 'wwebjs' FROM generate_series(0, {SESSIONS - 1}) n;
INSERT INTO wa_session (bot_id, state) SELECT id, 'WORKING' FROM phone_configs WHERE connection_type = 'wwebjs'"""
#: `FAILED` messages of these numbers.
MANY_FAILED = f"""
INSERT INTO outbox (bot_id, chat_id, message_id, company_id, phone_index, kind, payload, status, error_code, error,
    accepted_at, updated_at, attempts)
SELECT c.id, (60120000000 + n)::text, uuid_generate_v4(), '0500', c.phone_index, 'text',
    jsonb_build_object('message', repeat('a long text ', 40)), 'failed', '131026', repeat('why it failed ', 10),
    now() - n / 7 * interval '1 second', now() - n / 7 * interval '1 second', 1
FROM generate_series(1, {FAILED}) n JOIN phone_configs c ON c.company_id = '0500' AND c.phone_index = n % {SESSIONS}"""
#: As many events of processes.
MANY_EVENTS = f"""
INSERT INTO process_events (process_name, event_type, severity, event_data, timestamp)
SELECT 'api', 'process_restarting', 'warning', jsonb_build_object('instance', 'api-0', 'reason', repeat('x', 200)),
    now() - n * interval '1 second' FROM generate_series(1, {FAILED}) n"""


def invite(deployment: Deployment, name: str, role: str) -> str:
    """The link by which a new person sets a password."""
    return deployment.run("users", "add", name, "--role", role).stdout.strip()


def accept_and_sign_in(browser: PageBrowser, link: str, name: str) -> None:
    """Accepts an invitation, and signs in."""
    browser.open(link)
    if not browser.find("[name=code]").get_attribute("value"):  # without JavaScript a person types it
        browser.fill(code=link.partition("#")[2])
    browser.fill(password=PASSWORD, again=PASSWORD)
    browser.submit()
    browser.fill(name=name, password=PASSWORD)
    browser.submit()
    browser.find("header.top nav")
