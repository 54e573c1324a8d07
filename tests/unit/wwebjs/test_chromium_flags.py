"""The error of a program that does not start."""

import pytest

from services.connectors.wwebjs.browser.chromium import Program, StartFailed

PREFIX = "[2873:2873:1123/120144.049043:ERROR:"
SAID = f"""
echo "{PREFIX}dbus/bus.cc:405] Failed to connect to the bus: no such file"
echo "{PREFIX}content/zygote_host_impl_linux.cc:130] No usable sandbox! {"and " * 99}"
exit 1
"""


def test_a_failed_start_quotes_the_last_words_of_the_program_without_noise(tmp_path):
    program = Program(("/bin/sh", "-c", SAID), tmp_path / "log")
    try:
        with pytest.raises(StartFailed) as failed:
            program.port(tmp_path / "port", r"(\d+)", 20)
    finally:
        program.kill()
    assert str(failed.value).startswith("sh ended with status 1: No usable sandbox! and")
    assert "bus" not in str(failed.value)
    assert len(str(failed.value)) < 300
