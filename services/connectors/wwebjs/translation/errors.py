"""The meaning of the page's errors and answers for a message: the codes of wa-js as data."""

from typing import Any

from services.connectors.base import Refusal
from services.message import Outcome, Outgoing, Rejected, Retry, Scope, Sent, Unavailable

#: Maximum length of a reason, in characters; the rest of the page's text is dropped.
MAX_REASON = 500

_REJECTED = {
    "chat_not_found": "WhatsApp does not know this chat; check its number or group",
    "group_not_exist": "the group no longer exists",
    "group_you_are_restricted_member": "only the group's admins may write to it; make this number an admin",
    "group_you_are_not_admin": "only the group's admins may do that; make this number an admin",
    "not_in_chat": "this number is not a member of the group; have it added",
    "invalid_wid": "this is not an address of WhatsApp; check the number",
    "msg_not_found": "the message that this one refers to is no longer in the chat",
    "invalid_quoted_msg": "the quoted message cannot be answered; send this one without a quote",
    "quoted_msg_can_not_reply": "the quoted message cannot be answered; send this one without a quote",
    "mentioned_is_not_user": "only people can be mentioned; check the numbers in mentions",
    "edit_message_error": "WhatsApp allows edits of your own texts for 15 minutes; send a correction instead",
    "file_too_large": "the file is too large for WhatsApp; send a smaller one, or a link",
}


def classify(code: str | None, message: str) -> Refusal:
    """The meaning of an error that a function of the page threw. An unknown error may be temporary: it is retried."""
    words = message.replace("\0", "")[:MAX_REASON]
    if code in _REJECTED:
        return Rejected(code, f"{_REJECTED[code]} ({words})")
    return Retry(code or "page_error", f"the page of WhatsApp Web says: {words}")


def outcome_of_call(message: Outgoing, answer: Any) -> Outcome:
    """The outcome of a message without a key (a reaction, receipt, edit or deletion) from the page's answer."""
    found = answer if isinstance(answer, dict) else {}
    if message.kind == "delete" and message.payload["deleteForEveryone"] and found.get("isRevoked") is not True:
        return Rejected(
            "deleted_locally",
            "WhatsApp deleted it on this number's own devices only: it is too old, or not one of yours; the other "
            "side still has it",
        )
    result = found.get("sendMsgResult")
    if message.kind != "delete" and result == "ERROR_NETWORK":
        return Unavailable("error_network", "WhatsApp could not be reached", chargeable=True, scope=Scope.CHAT)
    if message.kind != "delete" and isinstance(result, str) and result.startswith("ERROR"):
        return Retry(result.lower(), "WhatsApp could not do it at the moment")
    return Sent()
