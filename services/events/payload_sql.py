"""SQL that builds the payloads of events; `services.events.payloads` describes them.

Each expression reads one row `w`, whose columns are stated above it. The event of a message's status, which the tool
raises too, is in `bisnesctl.database.event_sql`. The events of bots and sessions are built by the
functions `bot_status_event` (sql/004_meta_channel.sql) and `session_status_event` (sql/005_whatsapp_web.sql), the test
of a webhook in `services.events.webhooks`.
"""

from bisnesctl.database.event_sql import envelope

# Messages of the outbox: `w` has the columns of the table `outbox`; the parameter media_base is the beginning of links.

#: The text of a message, as a person reads it.
CONTENT = "COALESCE(payload ->> 'message', payload ->> 'caption', payload ->> 'templateName')"
#: The address of its file: the link that was given, or our own copy.
MEDIA_URL = """COALESCE(payload #>> '{media,link}', CASE WHEN payload #>> '{media,key}' IS NOT NULL
    THEN %(media_base)s || '/api/v2/media/' || company_id || '/' || message_id END)"""


def digits(number: str) -> str:
    """SQL of the digits of a phone number, which providers write for people: +1 555-078-3881."""
    return f"NULLIF(regexp_replace({number}, '[^0-9]', '', 'g'), '')"


#: The bot's number, in digits.
OWN_NUMBER = f"""(SELECT COALESCE({digits("c.display_phone_number")}, (
        SELECT own_number FROM wa_session WHERE bot_id = c.id)) FROM phone_configs c WHERE c.id = w.bot_id)"""

SENT_EVENT = envelope(
    "message.any",
    f"""jsonb_build_object('id', w.message_id, 'providerId', w.provider_id,
        'timestamp', floor(extract(epoch FROM now())), 'chatId', w.chat_id, 'from', {OWN_NUMBER}, 'to', w.chat_id,
        'fromMe', true, 'type', w.kind, 'body', {CONTENT}, 'hasMedia', w.payload ? 'media',
        'media', CASE WHEN w.payload ? 'media' THEN jsonb_build_object('url', {MEDIA_URL},
            'mimetype', w.payload #> '{{media,mimeType}}', 'filename', w.payload -> 'filename',
            'sha256', w.payload #> '{{media,sha256}}', 'voice', COALESCE(w.payload -> 'voice', 'false')) END,
        'replyTo', CASE WHEN w.payload ? 'quoted_provider_id'
            THEN jsonb_build_object('id', w.payload -> 'quoted_provider_id') END,
        'name', NULL, 'userId', NULL, 'content', NULL)""",
)


# Received messages: `w` has the columns that `services.inbox.messages` selects as `w`.

_MEDIA = """CASE WHEN w.media IS NOT NULL THEN jsonb_build_object('url', w.media_url,
        'mimetype', w.media -> 'mimeType', 'filename', w.media -> 'filename', 'sha256', w.media -> 'sha256',
        'voice', w.media -> 'voice', 'animated', w.media -> 'animated') END"""
RECEIVED_PAYLOAD = f"""jsonb_build_object('id', w.id, 'providerId', w.provider_id, 'timestamp', floor(w.at),
        'chatId', w.chat_id, 'from', CASE WHEN w.from_me THEN w.own_number ELSE w.chat_id END,
        'to', CASE WHEN w.from_me THEN w.chat_id ELSE w.own_number END, 'fromMe', w.from_me, 'type', w.kind,
        'body', w.text, 'hasMedia', w.media IS NOT NULL, 'media', {_MEDIA},
        'replyTo', CASE WHEN w.quoted IS NOT NULL THEN jsonb_build_object('id', w.quoted) END,
        'name', w.name, 'userId', w.user_id, 'author', w.content -> 'author',
        'content', CASE WHEN NOT w.plain THEN w.content END) || w.details"""
RECEIVED_EVENT = envelope("message", RECEIVED_PAYLOAD)
RECEIVED_ANY_EVENT = envelope("message.any", RECEIVED_PAYLOAD)

# Changes of a message: `w.id` and `w.target` are our ID and the provider's ID of that message.

REACTION_EVENT = envelope(
    "message.reaction",
    """jsonb_build_object('chatId', w.chat_id, 'providerId', w.provider_id, 'fromMe', w.from_me,
        'timestamp', floor(w.at), 'name', w.name,
        'reaction', jsonb_build_object('text', w.body, 'messageId', w.id, 'providerId', w.target))""",
)
EDIT_EVENT = envelope(
    "message.edited",
    """jsonb_build_object('chatId', w.chat_id, 'messageId', w.id, 'providerId', w.target, 'body', w.body,
        'timestamp', floor(w.at))""",
)
REVOCATION_EVENT = envelope(
    "message.revoked",
    """jsonb_build_object('chatId', w.chat_id, 'messageId', w.id, 'providerId', w.target,
        'timestamp', floor(w.at))""",
)
RENAMED_EVENT = envelope(
    "user.changed",
    """jsonb_build_object('chatId', w.chat_id, 'previousChatId', w.previous, 'userId', w.user_id,
        'previousUserId', w.previous_user, 'name', w.name, 'timestamp', floor(w.at))""",
)
CALL_EVENT = envelope(
    "call",
    """jsonb_build_object('id', w.provider_id, 'chatId', w.chat_id, 'from', w.chat_id, 'name', w.name,
        'isVideo', w.video, 'isGroup', w.of_group, 'timestamp', floor(w.at))""",
)

#: The event of a provider's notice; its name is in the column `event`.
NOTICE_EVENT = f"""jsonb_set(
        {envelope("", "jsonb_build_object('field', w.field, 'account', w.account, 'value', w.value)")},
        '{{event}}', to_jsonb(w.event))"""
