"""What the errors of the page mean for a message: the codes of wa-js as data."""

from typing import Any

from services.connectors.base import Refusal
from services.message import Outcome, Outgoing, Rejected, Retry, Scope, Sent, Unavailable

#: Characters that are kept of what the page says.
MAX_REASON = 500

_NEVER = {
    "chat_not_found": "WhatsApp does not know this chat; check its number or group",
    "group_not_exist": "the group does not exist any more",
    "group_you_are_restricted_member": "only the group's admins may write to it; make this number an admin",
    "group_you_are_not_admin": "only the group's admins may do that; make this number an admin",
    "not_in_chat": "this number is not a member of the group; have it added",
    "invalid_wid": "that is no address of WhatsApp; check the number",
    "msg_not_found": "the message that this is about is not in the chat any more",
    "invalid_quoted_msg": "the message that this answers cannot be answered; send it without a quote",
    "quoted_msg_can_not_reply": "the message that this answers cannot be answered; send it without a quote",
    "mentioned_is_not_user": "only people can be mentioned; check the numbers in mentions",
    "edit_message_error": "WhatsApp lets texts of your own be edited for 15 minutes; send a correction instead",
    "file_too_large": "the file is too large for WhatsApp; send a smaller one, or a link",
}


def classify(code: str | None, message: str) -> Refusal:
    """What it means that a function of the page failed. What is not known here may pass, so it is tried again."""
    said = message.replace("\0", "")[:MAX_REASON]
    if code in _NEVER:
        return Rejected(code, f"{_NEVER[code]} ({said})")
    return Retry(code or "page_error", f"the page of WhatsApp Web says: {said}")


def of_act(message: Outgoing, answer: Any) -> Outcome:
    """What the answer of the page means for a message without a key: a reaction, a receipt, an edit or a deletion."""
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
        return Retry(result.lower(), "WhatsApp could not do it just now")
    return Sent()
