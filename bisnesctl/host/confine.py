"""Runs a program that may use only what it needs: `python -I -S confine.py OPTION... -- PROGRAM ARGUMENT...`

`--execute PATH`, `--read PATH`, `--write PATH`: the program may execute and read it, read it, or read and write it; a
folder includes all below it. `--connect PORT`: the only TCP ports that it may connect to. Everything else is refused by
the kernel (Landlock), also to root, and to all that the program starts. A kernel without Landlock restricts nothing.
This file imports none of ours, since it runs in front of each browser.
"""

import ctypes
import os
import stat
import struct
import sys
from contextlib import suppress

_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446  # the same numbers on all architectures
_VERSION_FLAG = 1
_PATH_RULE, _PORT_RULE = 1, 2
_SET_NO_NEW_PRIVILEGES = 38

_EXECUTE, _WRITE_FILE, _READ_FILE, _READ_FOLDER = 1 << 0, 1 << 1, 1 << 2, 1 << 3
_TRUNCATE, _IOCTL = 1 << 14, 1 << 15
#: The rights that a rule for a file may have, and not only one for a folder.
_OF_FILES = _EXECUTE | _WRITE_FILE | _READ_FILE | _TRUNCATE | _IOCTL
#: By version of Landlock: how many of the kinds of access to files it knows.
_KINDS_OF_ACCESS = {1: 13, 2: 14, 3: 15, 4: 15}
_LATEST_KINDS_OF_ACCESS = 16
_CONNECT = 2
#: Abstract sockets of others, and signals to them.
_SCOPES = 3
_NETWORK_VERSION, _SCOPE_VERSION = 4, 6

_libc = ctypes.CDLL(None, use_errno=True)


def version() -> int:
    """The version of the kernel's Landlock; 0 if it has none, or it is turned off."""
    found: int = _libc.syscall(_CREATE_RULESET, None, ctypes.c_size_t(0), _VERSION_FLAG)
    return max(found, 0)


def restrict(paths: list[tuple[str, str]], ports: list[int]) -> None:
    """Restrict this process, for ever. `paths`: pairs of execute, read or write, and a path. Raises `OSError`."""
    found = version()
    if not found:
        return
    files = (1 << _KINDS_OF_ACCESS.get(found, _LATEST_KINDS_OF_ACCESS)) - 1
    network = _CONNECT if ports and found >= _NETWORK_VERSION else 0
    attributes = [
        files,
        *([network] if found >= _NETWORK_VERSION else []),
        *([_SCOPES] if found >= _SCOPE_VERSION else []),
    ]
    content = struct.pack(f"={len(attributes)}Q", *attributes)
    ruleset = _call(_CREATE_RULESET, content, ctypes.c_size_t(len(content)), 0)
    read = _READ_FILE | _READ_FOLDER
    rights = {"execute": read | _EXECUTE, "read": read, "write": files & ~_EXECUTE}
    for kind, path in paths:
        with suppress(FileNotFoundError):
            _allow_path(ruleset, path, rights[kind])
    if network:
        for port in ports:
            _call(_ADD_RULE, ruleset, _PORT_RULE, struct.pack("=QQ", _CONNECT, port), 0)
    if _libc.prctl(_SET_NO_NEW_PRIVILEGES, 1, 0, 0, 0):
        raise OSError(ctypes.get_errno(), "no_new_privs")
    _call(_RESTRICT_SELF, ruleset, 0)
    os.close(ruleset)


def _allow_path(ruleset: int, path: str, rights: int) -> None:
    handle = os.open(path, os.O_PATH | os.O_CLOEXEC)
    try:
        allowed = rights if stat.S_ISDIR(os.fstat(handle).st_mode) else rights & _OF_FILES
        _call(_ADD_RULE, ruleset, _PATH_RULE, struct.pack("=Qi", allowed, handle), 0)
    finally:
        os.close(handle)


def _call(number: int, *arguments: object) -> int:
    result: int = _libc.syscall(number, *arguments)
    if result < 0:
        raise OSError(ctypes.get_errno(), f"Landlock: {os.strerror(ctypes.get_errno())}")
    return result


def main(words: list[str]) -> None:
    """Restrict this process, then become the program."""
    end = words.index("--")
    options, command = list(zip(words[:end:2], words[1:end:2], strict=True)), words[end + 1 :]
    ports = [int(value) for name, value in options if name == "--connect"]
    restrict([(name.removeprefix("--"), value) for name, value in options if name != "--connect"], ports)
    os.execvp(command[0], command)  # noqa: S606


if __name__ == "__main__":
    main(sys.argv[1:])
