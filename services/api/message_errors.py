"""The codes that a failed, waiting or retried message may have: `error.code`, `providerCode`, and events' `error.code`.

Meta's numeric codes are in `services.connectors.meta.translation.errors`. `docs/reference/errors.md` is made from both.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class MessageError:
    """A code that is not one of Meta's."""

    meaning: str
    advice: str = ""


#: Codes of bisnesctl itself, for every channel.
OURS = {
    "bot_removed": MessageError("The bot was removed while the message waited.", "Send it by another bot."),
    "credential": MessageError(
        "The bot's credential cannot be decrypted; the bot waits.", "Check `ENCRYPTION_KEY`, or link the number again."
    ),
    "internal": MessageError("An error of bisnesctl itself.", "See the log of the worker."),
    "media_link": MessageError("The file of the link cannot be downloaded.", "Check the link."),
    "media_missing": MessageError("The file is no longer stored.", "Send it again."),
    "media_store": MessageError("The file store is unavailable.", "The message is tried again."),
    "media_too_large": MessageError("The file of the link is too large for its kind.", "Send a smaller file."),
    "network": MessageError("The provider could not be reached.", "The message is tried again."),
    "no_answer": MessageError(
        "The provider did not answer, so the message may have been sent.", "Wait for the provider's report."
    ),
    "payload": MessageError("This version cannot send the stored message.", "Send it again as a new message."),
    "preparation": MessageError("Preparing the message failed.", "See the log of the worker."),
    "provider_unreachable": MessageError("The provider was unavailable for too long.", "Send it again."),
    "steps": MessageError("Preparing the message took too many steps.", "See the log of the worker."),
    "unknown_bot": MessageError("The bot was removed while the message was being sent.", "Send it by another bot."),
    "unsupported_media": MessageError("The file of the link has a type that is not allowed.", "Convert the file."),
    "upload": MessageError("The upload of the file failed.", "The message is tried again."),
    "worker_suspended": MessageError(
        "The worker slept right before the send, and another machine took over; the message did not leave.",
        "Send it again.",
    ),
}

#: Codes of answers of the provider, or of a proxy, that have none of their own.
HTTP = {
    "360dialog_<status>": MessageError("360dialog refused the message with this HTTP status.", "See the reason."),
    "http_<status>": MessageError("The answer has this HTTP status and is not one of the API.", "See the reason."),
}

#: Codes of WhatsApp Web bots.
WEB = {
    "chat_not_found": MessageError("WhatsApp does not know the chat.", "Check the number or the group."),
    "deleted_locally": MessageError(
        "WhatsApp deleted the message on the number's own devices only.", "It is too old, or not one of yours."
    ),
    "edit_message_error": MessageError("The message can no longer be edited.", "Send a correction."),
    "error_network": MessageError("WhatsApp could not be reached.", "The message is tried again."),
    "error_…": MessageError("Another error of WhatsApp Web, in lower case.", "The message is tried again."),
    "file_too_large": MessageError("The file is too large for WhatsApp.", "Send a smaller file, or a link."),
    "group_not_exist": MessageError("The group no longer exists."),
    "group_you_are_not_admin": MessageError("Only admins of the group may do that.", "Make the number an admin."),
    "group_you_are_restricted_member": MessageError(
        "Only admins of the group may write to it.", "Make the number an admin."
    ),
    "interrupted": MessageError("The page failed several times while it was sending the message.", "Send it again."),
    "invalid_quoted_msg": MessageError("The quoted message cannot be quoted.", "Send it without the quote."),
    "invalid_wid": MessageError("The chat ID is not an address of WhatsApp.", "Check the number."),
    "mentioned_is_not_user": MessageError("Only people can be mentioned.", "Check `mentions`."),
    "msg_not_found": MessageError("The message that this one is about is no longer in the chat."),
    "not_in_chat": MessageError("The number is not a member of the group.", "Have it added."),
    "not_on_whatsapp": MessageError("The phone number is not on WhatsApp.", "Check the number and its country code."),
    "not_sent": MessageError("WhatsApp could not send the message.", "The message is tried again."),
    "number_check": MessageError(
        "WhatsApp could not be asked for the number, or did not find it at first.", "The message is tried again."
    ),
    "page": MessageError("The page was lost before the message left.", "The message is tried again."),
    "page_error": MessageError("A function of the page failed without a code.", "The message is tried again."),
    "quoted_msg_can_not_reply": MessageError("The quoted message cannot be quoted.", "Send it without the quote."),
    "warming_up": MessageError(
        "The number is limited during warm-up.", "The message is sent later. `bisnesctl bots limit` changes the limit."
    ),
}
