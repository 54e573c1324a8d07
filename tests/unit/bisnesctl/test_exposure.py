"""The warnings of a start about what a login of the machine could reach through a browser."""

import os

import pytest

from bisnesctl.host import confine
from bisnesctl.lifecycle import preflight
from bisnesctl.processes.selection import in_mode
from bisnesctl.processes.topology import Mode, expand
from bisnesctl.settings import Settings


@pytest.mark.parametrize("user", [0, 1000])
@pytest.mark.parametrize("landlock", [0, 1])
def test_a_start_warns_of_root_and_of_a_kernel_that_cannot_confine_browsers(monkeypatch, user, landlock):
    monkeypatch.setattr(os, "geteuid", lambda: user)
    monkeypatch.setattr(confine, "version", lambda: landlock)
    instances, said = in_mode(expand(Settings()), Mode.MULTIPROCESS, ()), []
    preflight.warn_of_exposure(instances, said.append)
    text = " ".join(said)
    assert ("Chromium runs as root" in text, "has no Landlock" in text) == (user == 0, landlock == 0)


def test_a_start_without_browsers_warns_of_neither(monkeypatch):
    monkeypatch.setattr(confine, "version", lambda: 0)
    said: list[str] = []
    preflight.warn_of_exposure(in_mode(expand(Settings(enable_wwebjs=False)), Mode.MULTIPROCESS, ()), said.append)
    assert said == []
