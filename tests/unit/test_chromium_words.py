"""What is told of a program that does not start."""

import pytest

from services.connectors.wwebjs.chromium import Program, StartFailed

SAID = """
echo "[2873:2873:1123/120144.049043:ERROR:dbus/bus.cc:405] Failed to connect to the bus: no such file" >&2
echo "[2873:2873:1123/120144.049043:ERROR:zygote_host_linux.cc:130] No usable sandbox! $(yes and | head -99 | tr '\\n' ' ')" >&2
exit 1
"""


def test_a_program_that_does_not_start_is_quoted_without_what_says_nothing(tmp_path):
    program = Program(("/bin/sh", "-c", SAID), tmp_path / "log")
    try:
        with pytest.raises(StartFailed) as failed:
            program.port(tmp_path / "port", r"(\d+)", 20)
    finally:
        program.kill()
    assert str(failed.value).startswith("sh ended with status 1: No usable sandbox! and")
    assert "bus" not in str(failed.value)
    assert len(str(failed.value)) < 300
