"""The bundle of wa-js: only the exact bytes that were tested are accepted."""

import hashlib
import zipfile
from pathlib import Path

import pytest

from bisnesctl import wajs
from bisnesctl.__main__ import main
from bisnesctl.errors import ConfigError, ExitCode
from bisnesctl.lifecycle import preflight
from bisnesctl.settings import Settings
from services.connectors.wwebjs.browser.browser import BrowserOptions

BUNDLE = b"/*! wppconnect-team/wa-js v9.8.7 */"


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A folder that is pip's only source, and a place to keep the bundle."""
    folder = tmp_path / "packages"
    folder.mkdir()
    for name, value in {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(folder), "PIP_CONFIG_FILE": "/dev/null"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(wajs, "pinned_path", lambda: tmp_path / "share" / "wa-js.js")
    return folder


def write(folder, members):
    name, version = "WPP_Whatsapp", "2.4.0"
    info = f"{name}-{version}.dist-info"
    about = {
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{info}/RECORD": "",
    }
    with zipfile.ZipFile(folder / f"{name}-{version}-py3-none-any.whl", "w") as wheel:
        for path, content in {**about, **members}.items():
            wheel.writestr(path, content)


def test_the_pinned_bundle_is_fetched_once(package, monkeypatch):
    write(package, {wajs.MEMBER: BUNDLE})
    monkeypatch.setattr(wajs, "SHA256", hashlib.sha256(BUNDLE).hexdigest())
    path = wajs.fetch()
    assert path.read_bytes() == BUNDLE
    assert wajs.version_of(path) == "9.8.7"
    assert [each.name for each in path.parent.iterdir()] == [path.name]
    next(package.iterdir()).unlink()
    assert wajs.fetch() == path == wajs.bundle(Settings())


@pytest.mark.parametrize(
    ("members", "says"), [({wajs.MEMBER: BUNDLE}, "not the wa-js"), ({}, "has no"), (None, "pip could not download")]
)
def test_any_other_bundle_is_not_stored(package, members, says):
    if members is not None:
        write(package, members)
    with pytest.raises(wajs.FetchFailed, match=says):
        wajs.fetch()
    assert not wajs.pinned_path().exists()


def test_a_bundle_that_is_missing_or_changed_is_not_used(package):
    with pytest.raises(ConfigError, match="bisnesctl wa-js fetch"):
        wajs.bundle(Settings())
    wajs.pinned_path().parent.mkdir()
    wajs.pinned_path().write_bytes(BUNDLE)
    with pytest.raises(ConfigError, match="bisnesctl wa-js fetch"):
        wajs.bundle(Settings())


def test_a_bundle_of_the_operator_is_not_checked(tmp_path):
    other = tmp_path / "other.js"
    with pytest.raises(ConfigError, match="WA_JS_PATH"):
        wajs.bundle(Settings(wa_js_path=other))
    other.write_bytes(BUNDLE)
    assert wajs.bundle(Settings(wa_js_path=other)) == other


def test_a_start_and_a_check_say_how_to_fetch_a_bundle_that_is_missing(package, tmp_path, monkeypatch, capsys):
    warning = preflight.missing_wa_js(Settings())
    assert "WhatsApp Web numbers cannot run yet" in warning
    assert "`bisnesctl wa-js fetch`" in warning
    assert preflight.missing_wa_js(Settings(enable_wwebjs=False)) == ""
    (tmp_path / ".env").write_text(f"ENCRYPTION_KEY={'0' * 64}\n")
    monkeypatch.setenv("BISNES_ENV", str(tmp_path / ".env"))
    assert main(["wa-js", "check"]) == ExitCode.CONFIG
    assert "bisnesctl wa-js fetch" in " ".join(capsys.readouterr().err.split())
    write(package, {wajs.MEMBER: BUNDLE})
    monkeypatch.setattr(wajs, "SHA256", hashlib.sha256(BUNDLE).hexdigest())
    assert main(["wa-js", "fetch"]) == ExitCode.OK
    assert preflight.missing_wa_js(Settings()) == ""


def test_a_session_without_its_bundle_says_how_to_fetch_it(package):
    with pytest.raises(ConfigError, match="bisnesctl wa-js fetch"):
        BrowserOptions.from_settings(Settings(), Path("/nowhere"))
