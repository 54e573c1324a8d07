"""The types of settings: how a value must be written, and what it means."""

import re
import shlex
from ipaddress import IPv4Network, IPv6Network, ip_network
from typing import Annotated

from bisnesctl import addresses
from bisnesctl.setting_fields import Check, Limits, Reader, SecretStr

#: The word for a quota without a limit.
NO_LIMIT = "unlimited"
#: The highest limit of a quota.
MAX_QUOTA = 10**15

Network = IPv4Network | IPv6Network
Port = Annotated[int, Limits(ge=1, le=65535)]
Host = Annotated[str, Check(addresses.parse_host)]
HttpAddress = Annotated[str, Limits(pattern=r"^https?://[^\s/?#]+(/[^\s?#]*)?$")]
HealthAddress = Annotated[str, Limits(pattern=r"^https?://[^\s/?#@]+(/[^\s#]*)?$")]


def _ping_url(value: SecretStr) -> SecretStr:
    """The address of a dead-man switch, which is a secret. Raises `ValueError` without showing it."""
    text = value.get_secret_value()
    if text and not re.fullmatch(r"https?://[^\s/?#]+(/[^\s?#]*)?(\?[^\s#]*)?", text):
        raise ValueError("must be an http:// or https:// address without a fragment")
    return value


PingUrl = Annotated[SecretStr, Check(_ping_url)]


def quota_limit(value: object) -> int | None:
    """A limit as it is written: a whole number, or `NO_LIMIT`, which is None. Raises `ValueError`."""
    text = NO_LIMIT if value is None else str(value).strip()
    if text == NO_LIMIT:
        return None
    if not (text.isascii() and text.isdigit() and int(text) <= MAX_QUOTA):
        raise ValueError(f"must be a whole number of 0 or more, or {NO_LIMIT}")
    return int(text)


QuotaLimit = Annotated[int | None, Reader(quota_limit)]


def networks(text: str) -> tuple[Network, ...]:
    """Networks that are separated by commas. Raises `ValueError`."""
    return tuple(ip_network(part.strip()) for part in text.split(",") if part.strip())


def _networks_text(text: str) -> str:
    networks(text)
    return text


Networks = Annotated[str, Check(_networks_text)]


def test_chats(text: str) -> tuple[tuple[str, int, str], ...]:
    """Company, phone index and chat of each part, such as `0128/0:60123456789`. Raises `ValueError`."""
    parts = [part.strip() for part in text.split(",") if part.strip()]
    found = [re.fullmatch(r"([^/:,\s]+)/(\d{1,9}):(\d{5,20})", part, re.ASCII) for part in parts]
    if not all(found):
        raise ValueError("must be bots with chats, separated by commas, such as 0128/0:60123456789")
    return tuple((each[1], int(each[2]), each[3]) for each in found if each)


def _test_chats_text(text: str) -> str:
    test_chats(text)
    return text


TestChats = Annotated[str, Check(_test_chats_text)]


def _command_line(text: str) -> str:
    """A command line without a shell. Raises `ValueError` for a quote that does not end."""
    try:
        shlex.split(text)
    except ValueError as error:
        raise ValueError(f"must be a command line: {str(error).lower()}") from error
    return text


CommandLine = Annotated[str, Check(_command_line)]


def is_hex_key(text: str) -> bool:
    """Whether a text is a key of 256 bits in hex."""
    return len(text) == 64 and all(digit in "0123456789abcdefABCDEF" for digit in text)


def _encryption_key(key: SecretStr) -> SecretStr:
    text = key.get_secret_value()
    if text and not is_hex_key(text) and len(text.encode()) != 32:
        raise ValueError("must be 64 hex digits or 32 characters")
    return key


EncryptionKey = Annotated[SecretStr, Check(_encryption_key)]
