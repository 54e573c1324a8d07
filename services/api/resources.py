"""All resources of the API."""

from services.api.routes import health
from services.api.routes.bots import bot, bots
from services.api.routes.events import events
from services.api.routes.media import media
from services.api.routes.media_messages import media_messages
from services.api.routes.messages import messages
from services.api.routes.queue import queue
from services.api.routes.quotas import quotas
from services.api.routes.reactions import reactions
from services.api.routes.resolutions import resolutions
from services.api.routes.sessions import session, sessions
from services.api.routes.webhooks import webhooks

RESOURCES = (
    *(messages, media_messages, media, reactions, resolutions, bots, bot, queue, sessions, session, webhooks, events),
    quotas,
    health.health,
)
