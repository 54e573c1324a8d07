"""The errors of the Graph API: HTTP status and title by code.

The table is taken from the Cloud API reference ("Error codes") and the Graph API reference ("Handling errors"). It is
written independently of `services.connectors.meta.translation.errors`: a test compares the two.
"""

from typing import NamedTuple


class Documented(NamedTuple):
    """HTTP status and title of a code."""

    http: int
    title: str


#: For codes that the documentation does not list.
UNDOCUMENTED = Documented(500, "An unknown error has occurred")

_PERMISSION = Documented(403, "Permission denied")

ERRORS: dict[int, Documented] = {
    # Authorization
    0: Documented(401, "AuthException"),
    3: Documented(500, "API Method"),
    10: _PERMISSION,
    190: Documented(401, "Access token has expired"),
    **dict.fromkeys(range(200, 300), _PERMISSION),
    # Integrity
    368: Documented(403, "Temporarily blocked for policies violations"),
    130497: Documented(403, "Business account is restricted from messaging users in this country"),
    131031: Documented(403, "Account has been locked"),
    # Throttling
    4: Documented(400, "API Too Many Calls"),
    17: Documented(400, "User request limit reached"),
    613: Documented(400, "Calls to this API have exceeded the rate limit"),
    80007: Documented(400, "Rate limit issues"),
    130429: Documented(400, "Rate limit hit"),
    131048: Documented(400, "Spam rate limit hit"),
    131056: Documented(400, "(Business Account, Consumer Account) pair rate limit hit"),
    131064: Documented(400, "Messages from this account are limited because of its quality"),
    133016: Documented(400, "Account register deregister rate limit exceeded"),
    # Blocking users
    139100: Documented(400, "Failed to block or unblock users"),
    139101: Documented(400, "The block list has reached its limit"),
    # Other
    1: Documented(400, "API Unknown"),
    2: Documented(503, "API Service"),
    33: Documented(400, "Parameter value is not valid"),
    100: Documented(400, "Invalid parameter"),
    130403: Documented(400, "The business blocked this user"),
    130472: Documented(400, "User's number is part of an experiment"),
    131000: Documented(500, "Something went wrong"),
    131005: Documented(403, "Access denied"),
    131008: Documented(400, "Required parameter is missing"),
    131009: Documented(400, "Parameter value is not valid"),
    131016: Documented(500, "Service unavailable"),
    131020: Documented(400, "Group has no other participant"),
    131021: Documented(400, "Recipient cannot be sender"),
    131026: Documented(400, "Message undeliverable"),
    131030: Documented(400, "Recipient phone number not in allowed list"),
    131037: Documented(400, "Display name approval is needed before a message can be sent"),
    131041: Documented(400, "Group is unknown"),
    131042: Documented(400, "Business eligibility payment issue"),
    131044: Documented(400, "Business eligibility payment issue"),
    131045: Documented(500, "Incorrect certificate"),
    131047: Documented(400, "Re-engagement message"),
    131049: Documented(400, "Not delivered to maintain healthy ecosystem engagement"),
    131050: Documented(400, "User has stopped receipt of marketing messages from this business"),
    131051: Documented(400, "Message type unknown"),
    131052: Documented(400, "Media download error"),
    131053: Documented(400, "Media upload error"),
    131057: Documented(500, "Account in maintenance mode"),
    131062: Documented(400, "Business-scoped user ids are not supported for this message"),
    131063: Documented(400, "Marketing templates are disabled for the Cloud API"),
    132000: Documented(400, "Template parameter count mismatch"),
    132001: Documented(404, "Template does not exist"),
    132005: Documented(400, "Template hydrated text too long"),
    132007: Documented(400, "Template format character policy violated"),
    132008: Documented(400, "Template parameter value is not valid"),
    132012: Documented(400, "Template parameter format mismatch"),
    132015: Documented(400, "Template is paused"),
    132016: Documented(400, "Template is disabled"),
    132018: Documented(400, "Template parameters are not valid"),
    132068: Documented(400, "Flow is blocked"),
    132069: Documented(400, "Flow is throttled"),
    133000: Documented(500, "Incomplete deregistration"),
    133004: Documented(503, "Server temporarily unavailable"),
    133005: Documented(400, "Two-step verification PIN mismatch"),
    133006: Documented(400, "Phone number re-verification needed"),
    133008: Documented(400, "Too many two-step verification PIN guesses"),
    133009: Documented(400, "Two-step verification PIN guessed too fast"),
    133010: Documented(400, "Phone number not registered"),
    133015: Documented(400, "Please wait a few minutes before attempting to register this phone number"),
    134011: Documented(400, "WhatsApp terms of service have not been accepted"),
    135000: Documented(400, "Generic user error"),
    137000: Documented(400, "Recipient identity key hash mismatch"),
}
