"""Changes to messages that were sent: another text, or none. Meta knows neither, and says so instead of pretending."""

from typing import NoReturn

from services.api import fields, sends, targets
from services.api.context import Context
from services.api.errors import ApiError
from services.api.fields import Fields
from services.api.schemas import MessagePath

#: By channel: why a message cannot be edited or deleted, and what to do instead.
_INSTEAD = {
    "meta": {
        "edit": "Meta cannot edit what was sent; send a correction as a text whose quotedMessageId is this message",
        "delete": "Meta cannot take back what was sent; send a correction that quotes it, or ask the other side to "
        "delete their copy",
    }
}
_NOT_YET = "messages cannot be changed through {} bots yet; send a correction that quotes this one"


def refuse(context: Context, action: str, path: MessagePath, given: Fields) -> NoReturn:
    """Raise the `ApiError` that says why the message stays as it is."""
    chat_id, phone_index = fields.chat(path.chat_id, path.company_id), fields.named_phone_index(given)
    with context.database.connection() as connection:
        target = targets.find(connection, path.company_id, path.message_id, phone_index)
    if target.chat_id != chat_id:
        raise ApiError(404, "unknown_message", f"the chat {chat_id} has no message with the id {path.message_id}")
    if phone_index is None:
        phone_index = target.phone_index or 0
    bot = context.directory.bot(path.company_id, phone_index)
    if bot is None:
        raise sends.unknown_bot(path.company_id, phone_index)
    reason = _INSTEAD.get(bot.process_name, {}).get(action) or _NOT_YET.format(bot.connection_type)
    raise ApiError(409, "unsupported_by_channel", reason)
