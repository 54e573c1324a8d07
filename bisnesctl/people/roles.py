"""Roles of people: each may do all that the one before may do."""

from enum import StrEnum


class Role(StrEnum):
    """The role of a person."""

    #: Sees everything, and changes nothing.
    VIEWER = "viewer"
    #: Also answers chats, and changes what runs and what waits.
    OPERATOR = "operator"
    #: Also sees keys, settings and the audit trail.
    ADMINISTRATOR = "administrator"

    def includes(self, other: "Role") -> bool:
        """Whether this role may do what the other one may do."""
        order = list(Role)
        return order.index(self) >= order.index(other)
