"""Builds the requirements of the benchmark: the two C programs and the peer's Node modules.

All of it goes to var/bench/, so that the second run starts at once.
"""

import os
import shutil
import subprocess
from pathlib import Path

SOURCE = Path(__file__).parent
ROOT = SOURCE.parents[1]
BUILT = ROOT / "var" / "bench"


class MissingTool(Exception):
    """Something that the machine must have is not there; the text says how to get it."""


def build(name: str) -> Path:
    """Compile tests/bench/<name>.c unless that was done; returns the program. Raises `MissingTool`."""
    source, program = SOURCE / f"{name}.c", BUILT / name
    if program.exists() and program.stat().st_mtime >= source.stat().st_mtime:
        return program
    compiler = os.environ.get("CC") or shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if not compiler:
        raise MissingTool("no C compiler: install one (Debian: apt-get install gcc libc6-dev) or name it in CC")
    BUILT.mkdir(parents=True, exist_ok=True)
    _run([compiler, "-std=gnu11", "-O2", "-o", str(program), str(source)], BUILT)
    return program


def install_peer(name: str = "peer") -> Path:
    """Have a peer, a folder beside this file, and its modules in var/bench; returns that folder.

    Raises `MissingTool`.
    """
    if not (shutil.which("node") and shutil.which("npm")):
        raise MissingTool("no Node.js: install node (18 or newer) and npm, or leave the peer out: --side ours")
    place, source = BUILT / name, SOURCE / name
    wanted = (source / "package.json").read_text()
    done = place / "node_modules" / "installed-for.json"
    shutil.copytree(source, place, dirs_exist_ok=True, ignore=shutil.ignore_patterns("node_modules"))
    if not (done.exists() and done.read_text() == wanted):
        _run(["npm", "install", "--no-package-lock", "--no-audit", "--no-fund", "--loglevel=error"], place)
        done.write_text(wanted)
    return place


def _run(command: list[str], folder: Path) -> None:
    environment = os.environ | {"PUPPETEER_SKIP_DOWNLOAD": "1"}  # the benchmark uses the installed Chromium
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=600)
    if done.returncode:
        raise MissingTool(f"{' '.join(command)} failed:\n{done.stderr.strip() or done.stdout.strip()}")
