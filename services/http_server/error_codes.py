"""The codes of all HTTP errors. `ApiError` and `Refusal` accept nothing else.

`docs/reference/errors.md` and the OpenAPI document are made from this module.
"""

from enum import StrEnum

#: Seconds after which a caller may send its request again, as the header Retry-After gives them.
RETRY_SOON_SECONDS = 2
#: The same for files that are not ready, and for a session or a disk that is busy.
RETRY_FILE_SECONDS = 5
#: The same for providers that are unavailable, and for streams that other clients must close first.
RETRY_LATER_SECONDS = 60


def retry_after(seconds: int) -> dict[str, str]:
    """The header Retry-After."""
    return {"Retry-After": str(seconds)}


class ErrorCode(StrEnum):
    """The field `code` of an error."""

    status: int
    """HTTP status."""
    meaning: str
    """When it occurs."""
    advice: str
    """The advice for the caller."""
    example: str
    """A sentence of the field `error`."""

    def __new__(cls, code: str, status: int, meaning: str, advice: str, example: str) -> "ErrorCode":
        member = str.__new__(cls, code)
        member._value_ = code
        member.status, member.meaning, member.advice, member.example = status, meaning, advice, example
        return member

    INVALID_JSON = (
        "invalid_json", 400, "The body is not a JSON object in UTF-8.", "Correct the body.",
        'the body must be a JSON object, such as {"message": "Hello"}',
    )  # fmt: skip
    INVALID_REQUEST = (
        "invalid_request", 400, "A field, parameter or header is missing or has a wrong value.",
        "Correct the field that `error` names.", "limit: Input should be less than or equal to 200",
    )  # fmt: skip
    INVALID_CHAT_ID = (
        "invalid_chat_id", 400, "The chat ID is neither a phone number, a group nor a hidden number.",
        "Use the international form, such as 60123456789.",
        "a chat id is a phone number in international form (60123456789, …), …",
    )  # fmt: skip
    TEXT_TOO_LONG = (
        "text_too_long", 400, "A text has more characters than its field allows.",
        "Shorten the text, or split it into several messages.",
        "message has 5000 characters, at most 4096 are allowed",
    )  # fmt: skip
    NO_KEY = (
        "no_key", 401, "The request has no API key.", "Send the key as `X-Api-Key` or `Authorization: Bearer <key>`.",
        "send your API key as X-Api-Key or as Authorization: Bearer <key>",
    )  # fmt: skip
    INVALID_KEY = (
        "invalid_key", 401, "The API key is unknown or was revoked.", "Use a key that `bisnesctl keys list` shows.",
        "this API key is unknown or was revoked (bisnesctl keys list)",
    )  # fmt: skip
    INVALID_SIGNATURE = (
        "invalid_signature", 401, "Meta's webhook has no valid signature of the app.",
        "Check `META_APP_SECRET`.", "X-Hub-Signature-256 does not sign this body with the app's secret",
    )  # fmt: skip
    INVALID_SECRET = (
        "invalid_secret", 401, "360dialog's webhook does not carry the bot's secret.",
        "Set the webhook again with `bisnesctl bots add`.",
        "X-Webhook-Secret is not this number's: set it with bisnesctl bots add",
    )  # fmt: skip
    FOREIGN_COMPANY = (
        "foreign_company", 403, "The key belongs to another company, or the route needs an operator's key.",
        "Use a key of the company, or an operator's key.", "this API key belongs to company 0128, not to 0999",
    )  # fmt: skip
    UNKNOWN_HOST = (
        "unknown_host", 403, "The address shows the state of the server and was requested under a foreign name.",
        "Set `PUBLIC_URL` to the name, use the server's IP address, or send a key.",
        "bots.example.com is not a name of this server: set PUBLIC_URL to it, use the IP address, or send a key",
    )  # fmt: skip
    WRONG_VERIFY_TOKEN = (
        "wrong_verify_token", 403, "Meta's verification of the webhook address has another token.",
        "Enter the value of `META_VERIFY_TOKEN` in the app's dashboard.",
        "hub.mode is not subscribe, or META_VERIFY_TOKEN is another one",
    )  # fmt: skip
    UNKNOWN_BOT = (
        "unknown_bot", 404, "The company has no bot with this phoneIndex.", "Link the number, or correct the index.",
        "company 0128 has no bot with phoneIndex 7 (bisnesctl bots list shows them)",
    )  # fmt: skip
    UNKNOWN_WEBHOOK = (
        "unknown_webhook", 404, "The company has no webhook with this ID.", "List the webhooks.",
        "there is no webhook 01934f7e-… (GET /api/webhooks lists them)",
    )  # fmt: skip
    UNKNOWN_EVENT = (
        "unknown_event", 404, "The company has no event with this ID, or the event was deleted.",
        "Replay from a time instead. Events are kept for `EVENTS_KEEP_DAYS`.",
        "the company has no event evt_01JZX4…, or it is no longer kept",
    )  # fmt: skip
    UNKNOWN_MESSAGE = (
        "unknown_message", 404, "The company or the chat has no message with this ID.",
        "Use the ID from the answer to the send, or from an event.",
        "the company has no message with the id wamid.HBgL…",
    )  # fmt: skip
    NOT_FOUND = (
        "not_found", 404, "The address does not exist.", "See `/openapi/swagger`.",
        "there is no such address; /openapi/swagger shows all of them",
    )  # fmt: skip
    NO_MEDIA = (
        "no_media", 404, "The message has no file, or its file is at the link that was sent.",
        "Fetch the link, if the message has one.", "the message has no file here",
    )  # fmt: skip
    METHOD_NOT_ALLOWED = (
        "method_not_allowed", 405, "The address does not support the method.",
        "Use a method that the header `Allow` lists.",
        "this address does not support the method; the Allow header lists those it does",
    )  # fmt: skip
    REQUEST_TIMEOUT = (
        "request_timeout", 408, "The request was not complete in time.", "Send it again.",
        "the body of the request did not come in time",
    )  # fmt: skip
    PAUSED_BY_OPERATOR = (
        "paused_by_operator", 409, "An operator paused the bots; a company can neither change nor end that.",
        "Wait, or ask the operator of the server.",
        "an operator paused bot 0128/0, and only an operator can change that",
    )  # fmt: skip
    AMBIGUOUS_MESSAGE = (
        "ambiguous_message", 409, "Several bots of the company have a message with this ID.", "Name the `phoneIndex`.",
        "several messages go by the id 3EB0… (of the phoneIndexes 0, 1): name phoneIndex",
    )  # fmt: skip
    NOT_SENT = (
        "not_sent", 409, "The message that the request refers to has no ID of the provider yet.",
        "Wait until its status is `sent`.",
        "the message 01934f7e-… is queued: nothing can refer to it until it is sent",
    )  # fmt: skip
    NOT_UNKNOWN = (
        "not_unknown", 409, "Only a message whose outcome is unknown can be resolved.",
        "See the `status` of the message.",
        "the message 01934f7e-… is sent: only one whose outcome is unknown can be resolved",
    )  # fmt: skip
    NOT_INCOMING = (
        "not_incoming", 409, "Only received messages can be marked as read.", "Name a message that was received.",
        "the message wamid.HBgL… is one of yours: only those that came in can be marked as read",
    )  # fmt: skip
    NOT_OUTGOING = (
        "not_outgoing", 409, "Only your own messages can be edited or deleted for everyone.",
        'Delete a received message with `{"deleteForEveryone": false}`.',
        "the message true_60123456789@c.us_3EB0… came in: only your own can be edited",
    )  # fmt: skip
    MESSAGE_DELETED = (
        "message_deleted", 409, "The message that the request would change was deleted for everyone.",
        "Send a new message.", "the message 01934f7e-… was deleted: it cannot be edited, deleted or reacted to",
    )  # fmt: skip
    IDEMPOTENCY_CONFLICT = (
        "idempotency_conflict", 409, "The company has used the Idempotency-Key for a different message.",
        "Use a new key for each message.", "the Idempotency-Key order-1 was used for a different message",
    )  # fmt: skip
    NOT_SCANNING = (
        "not_scanning", 409, "The session shows no QR code.", "See `status` and `reason` in the answer.",
        "the session shows no QR code, it is WORKING: it is linked already; …",
    )  # fmt: skip
    NOT_RUNNING = (
        "not_running", 409, "The session does not run.", "Start it first.",
        "the session is STOPPED: start it first",
    )  # fmt: skip
    BLOCKED = (
        "blocked", 409, "A block keeps the session from starting.", "Remove the cause, then unblock the session.",
        "bot 0 of company 0128 is blocked until …: 3 starts in a row failed; …",
    )  # fmt: skip
    ID_MISMATCH = (
        "id_mismatch", 409, "The 360dialog API key belongs to another number or account.",
        "Leave the ID out, or use the key of the number.",
        "this API key is for the number 106540352242922, not 100000000007777: leave … out, or …",
    )  # fmt: skip
    NUMBER_TAKEN = (
        "number_taken", 409, "Another bot has the number.", "Remove the other bot first.",
        "another bot has the number id 106540352242922: remove that one first",
    )  # fmt: skip
    NOT_WAITING = (
        "not_waiting", 409, "The message cannot be cancelled: a worker has it in hand, or it left.",
        "See the reason in `error`.", "message 01934f7e-… is not cancelled: a worker has it in hand",
    )  # fmt: skip
    NOT_RETRYABLE = (
        "not_retryable", 409, "The message cannot be retried.", "See the reason in `error`.",
        "message 01934f7e-… is not retried: it was refused permanently (131026)",
    )  # fmt: skip
    MESSAGES_WAITING = (
        "messages_waiting", 409, "Messages of the bot have not been sent yet.",
        "Wait until they are sent, or fail them with `?force=true`.",
        "messages wait for this number: wait until they are sent, or …",
    )  # fmt: skip
    NOT_CONFIGURED = (
        "not_configured", 409, "The deployment lacks a setting that the request needs.",
        "Have an operator add the setting that `error` names.",
        "the embedded signup needs META_APP_ID and META_APP_SECRET in .env",
    )  # fmt: skip
    UNSUPPORTED_BY_CHANNEL = (
        "unsupported_by_channel", 409, "The bot's channel does not support the request.",
        "Do what `error` suggests instead.",
        "WhatsApp Web bots have no templates and no 24 hours; send the same as a text",
    )  # fmt: skip
    TOO_MANY_WEBHOOKS = (
        "too_many_webhooks", 409, "The company has the maximum number of webhooks.", "Delete one first.",
        "a company may have 50 webhooks",
    )  # fmt: skip
    WEBHOOK_INACTIVE = (
        "webhook_inactive", 409, "The webhook is not active.", "Activate it first.",
        'the webhook is not active: PATCH it with {"active": true} first',
    )  # fmt: skip
    TOO_MANY_NUMBERS = (
        "too_many_numbers", 409, "The company has as many numbers of this channel as it may have.",
        "Remove a number, or have an operator raise the quota.",
        "company 0128 has 3 of 3 WhatsApp Web numbers: remove one, or have an operator raise the quota (…)",
    )  # fmt: skip
    NOT_MOVED = (
        "not_moved", 409, "The former server may still run the WhatsApp Web number.",
        "Have an operator move it with `bisnesctl bots move`.",
        "bot 0 of company 0128 was not moved from the former server yet: `bisnesctl bots move 0128 0`",
    )  # fmt: skip
    MEDIA_GONE = (
        "media_gone", 410, "The file was deleted, or could not be downloaded from the provider.",
        "Ask the sender to send it again.",
        "the file is no longer available: it could not be fetched from the provider: …",
    )  # fmt: skip
    MEDIA_TOO_LARGE = (
        "media_too_large", 413, "The file is larger than its kind of message allows.",
        "Send a smaller file, or send it as a document.", "a file sent as image may have 5 MB at most",
    )  # fmt: skip
    MEDIA_QUOTA_EXCEEDED = (
        "media_quota_exceeded", 413, "The stored files of the company take all that they may take.",
        "Send a link instead of the file, or have an operator raise the quota.",
        "the files of company 0128 may take 50000 MB, and the file does not fit any more",
    )  # fmt: skip
    TOO_LARGE = (
        "too_large", 413, "The body of the request is too large.", "Send a smaller body.",
        "the body is too large; at most 1 MB is accepted",
    )  # fmt: skip
    URL_TOO_LONG = (
        "url_too_long", 414, "The URL is too long.", "Shorten the parameters.", "the URL may have 8192 bytes at most",
    )  # fmt: skip
    UNSUPPORTED_MEDIA = (
        "unsupported_media", 415, "The file's type is not allowed for the kind, or is not what the request declares.",
        "Convert the file, or send it as a document.",
        "a file of type image/gif cannot be sent as image; it may be image/jpeg, image/png",
    )  # fmt: skip
    INVALID_RANGE = (
        "invalid_range", 416, "The file has no such range of bytes.", "See the header `Content-Range`.",
        "the file has no such part; Content-Range says how many bytes it has",
    )  # fmt: skip
    LINK_FAILED = (
        "link_failed", 422, "The provider refused a step of linking the number.", "Do what `next` says.",
        "not linked, at the step number: Meta says: Invalid OAuth access token (code 190); …",
    )  # fmt: skip
    TOO_MANY_STREAMS = (
        "too_many_streams", 429, "The company has the maximum number of streams open.",
        "Close a stream, then wait for `Retry-After`.",
        "company 0128 has 20 streams open here already; close one first",
    )  # fmt: skip
    TOO_MANY_REQUESTS = (
        "too_many_requests", 429, "The caller has too many requests open.",
        "Wait for answers before you send more requests.",
        "too many requests at a time; wait for answers before you send more",
    )  # fmt: skip
    RATE_LIMITED = (
        "rate_limited", 429, "The company makes more requests than its quota allows.",
        "Wait for `Retry-After`, then send fewer requests.", "company 0128 may make 50 requests per second",
    )  # fmt: skip
    BACKLOG_FULL = (
        "backlog_full", 429, "The company has as many waiting messages as it may have.",
        "Wait until some have been sent; `hold` of a bot says why it does not send.",
        "company 0128 may have 1000 waiting messages; send more when some have left",
    )  # fmt: skip
    TOO_MANY_IDEMPOTENCY_KEYS = (
        "too_many_idempotency_keys", 429, "The company has used as many idempotency keys as it may have.",
        "Send without a key, or wait: a key is remembered for 7 days.",
        "company 0128 may have 1000 idempotency keys, which are remembered for 7 days",
    )  # fmt: skip
    TOO_MANY_WRONG_KEYS = (
        "too_many_wrong_keys", 429, "Too many wrong API keys came from the client's address.",
        "Correct the key, then wait for `Retry-After`. Valid keys are not refused.",
        "too many wrong API keys came from this address; try again later",
    )  # fmt: skip
    HEADERS_TOO_LARGE = (
        "headers_too_large", 431, "The request has too many headers, or headers that are too long.",
        "Send fewer or shorter headers.", "a request may have 100 headers of 32768 bytes together at most",
    )  # fmt: skip
    INTERNAL = (
        "internal", 500, "The request met an error of the API itself.",
        "Send it again with the same Idempotency-Key; report it if it remains.",
        "something went wrong on our side; the log of the API has the reason",
    )  # fmt: skip
    NOT_IMPLEMENTED = (
        "not_implemented", 501, "The request uses a part of HTTP that is not supported.",
        "Use `Transfer-Encoding: chunked` or none.", "the only Transfer-Encoding that is supported is chunked",
    )  # fmt: skip
    SEND_FAILED = (
        "send_failed", 502, "With `?wait=`: the message failed and is not sent again.",
        "See `error` and `providerCode`; the message errors below list them.",
        "the provider refused the message: recipient is not a WhatsApp number",
    )  # fmt: skip
    SESSION_FAILED = (
        "session_failed", 502, "The session could not carry out the command.", "See the reason in `error`.",
        "the session could not do it: that number cannot be linked by a code",
    )  # fmt: skip
    SESSION_SILENT = (
        "session_silent", 503, "The session did not answer in time.", "See its status, or restart it.",
        "the session does not answer; see its status, or restart it",
    )  # fmt: skip
    MEDIA_PENDING = (
        "media_pending", 503, "The file is still being downloaded from the provider.", "Ask again after `Retry-After`.",
        "the file is still being fetched from the provider; ask again shortly",
    )  # fmt: skip
    MEDIA_UNAVAILABLE = (
        "media_unavailable", 503, "The file store or the disk is unavailable; nothing was stored.",
        "Send it again after `Retry-After`.", "the file cannot be stored at the moment, the message was not stored: …",
    )  # fmt: skip
    TOO_MANY_CONNECTIONS = (
        "too_many_connections", 503, "The server has the maximum number of connections open.",
        "Try again after `Retry-After`.", "too many connections; try again shortly",
    )  # fmt: skip
    DATABASE_UNAVAILABLE = (
        "database_unavailable", 503, "The database is unavailable or cannot store; nothing was stored.",
        "Send it again after `Retry-After`.", "the database is unavailable; try again shortly",
    )  # fmt: skip
    PROVIDER_UNAVAILABLE = (
        "provider_unavailable", 503, "The provider cannot be reached.", "Try again in a few minutes.",
        "not linked, at the step number: Meta cannot be reached; try again in a few minutes",
    )  # fmt: skip


#: The codes of the addresses that receive providers' webhooks. The API does not use them.
RECEIVER_CODES = frozenset({ErrorCode.INVALID_SIGNATURE, ErrorCode.INVALID_SECRET, ErrorCode.WRONG_VERIFY_TOKEN})
