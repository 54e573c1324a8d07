"""The confinement of Chromium and ChromeDriver to the parts of this machine that they need.

Both listen on loopback, and neither asks who calls: any login of the machine may tell ChromeDriver to start a program,
and Chromium to open a file. So the kernel refuses them everything else (Landlock).
"""

import os
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path

from bisnesctl.host import confine

#: Programs and libraries. Not /opt, where a deployment may lie.
_SYSTEM = ("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/snap", "/nix/store")
#: Facts about the machine that a browser asks for. Not all of /etc, which has secrets.
_FACTS = (
    "/proc", "/sys", "/dev", "/run/systemd/resolve", "/run/resolvconf", "/run/NetworkManager", "/var/cache/fontconfig",
    *(f"/etc/{name}" for name in (
        "alternatives", "ca-certificates", "chromium", "chromium-browser", "chromium.d", "debian_version", "default",
        "fonts", "gai.conf", "group", "gtk-3.0", "host.conf", "hosts", "ld.so.cache", "locale.alias", "localtime",
        "lsb-release", "machine-id", "mime.types", "nsswitch.conf", "opt", "os-release", "passwd", "pki", "protocols",
        "resolv.conf", "services", "ssl", "timezone", "vulkan",
    )),
)  # fmt: skip
_LOADERS = ("/lib", "/lib64", "/usr/lib", "/usr/lib64")
#: Settings of kernels that refuse unprivileged user namespaces, and the value that does.
_NAMESPACES_REFUSED = {
    "/proc/sys/kernel/unprivileged_userns_clone": "0",
    "/proc/sys/kernel/apparmor_restrict_unprivileged_userns": "1",
    "/proc/sys/user/max_user_namespaces": "0",
}


def is_possible() -> bool:
    """Whether this kernel confines programs."""
    return confine.version() > 0


def of_chromium(
    executable: Path, own: tuple[Path, ...], files: Iterable[Path], arguments: Iterable[str]
) -> tuple[str, ...]:
    """The words in front of Chromium's command line.

    `own`: the folders that it writes; `files`: those of the files that it sends; `arguments`: those of the operator,
    paths in which may be used. Returns nothing if Chromium needs its setuid helper, which confined programs cannot use.
    """
    if os.geteuid() != 0 and not _has_namespaces():
        return ()
    named = [path for each in arguments if (path := each.partition("=")[2]).startswith("/")]
    write = (*map(str, own), "/dev", *named)
    if os.geteuid() != 0:  # its sandbox maps users there; as root there is none
        write += ("/proc",)
    rules = [("execute", each) for each in (*_SYSTEM, str(executable.resolve().parent))]
    rules += [("read", each) for each in (*_FACTS, tempfile.gettempdir(), *map(str, files))] + [
        ("write", each) for each in write
    ]
    return _words(rules)


def of_driver(executable: Path, chromium_port: int) -> tuple[str, ...]:
    """The words in front of ChromeDriver's command line: it starts no program, and talks to this Chromium alone."""
    real = executable.resolve()
    allowed = [str(real), *_loaders()] if _is_program(real) else [*_SYSTEM, str(real.parent)]
    rules = [("execute", each) for each in allowed] + [("read", each) for each in (*_SYSTEM, *_FACTS)]
    return _words([*rules, ("write", "/dev/null"), ("connect", str(chromium_port))])


def _words(rules: Iterable[tuple[str, str]]) -> tuple[str, ...]:
    options = [word for kind, value in rules for word in (f"--{kind}", value)]
    return (sys.executable, "-I", "-S", str(Path(confine.__file__)), *options, "--")


def _is_program(path: Path) -> bool:
    """Whether it is a program itself, and no script that starts one."""
    with path.open("rb") as file:
        return file.read(4) == b"\x7fELF"


def _loaders() -> list[str]:
    """The dynamic linkers, which the kernel executes in front of a program."""
    return sorted({str(each.resolve()) for folder in _LOADERS for each in Path(folder).glob("ld-*.so*")})


def _has_namespaces() -> bool:
    for path, refused in _NAMESPACES_REFUSED.items():
        setting = Path(path)
        if setting.exists() and setting.read_text().strip() == refused:
            return False
    return True
