"""The Python packages: ranges with two ends in setup.cfg, and a pinned version with hashes in requirements/."""

import configparser
import json
import re
import runpy
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.version import Version

ROOT = Path(__file__).parents[3]
#: The versions in which known vulnerabilities of the build tools are mended.
SAFE = {"pip": Version("25.3"), "setuptools": Version("78.1.1")}


def wanted(*extras):
    found = configparser.ConfigParser()
    found.read(ROOT / "setup.cfg")
    lines = found["options"]["install_requires"]
    lines += "".join(found["options.extras_require"][extra] for extra in extras)
    return [Requirement(line) for line in lines.split("\n") if line]


def pinned(name):
    """By package: its pinned versions, which differ between versions of Python, and the number of their hashes."""
    found = {}
    for block in re.split(r"\n(?=[a-z])", (ROOT / "requirements" / f"{name}.txt").read_text()):
        if match := re.match(r"([a-z0-9._-]+)(?:\[[a-z0-9,-]+\])?==([^\s;]+)", block):
            found.setdefault(match[1], []).append((Version(match[2]), block.count("--hash=sha256:")))
    return found


@pytest.mark.parametrize("extra", ["embedded", "s3", "dev"])
def test_each_range_has_a_lower_and_an_upper_end(extra):
    for each in wanted(extra):
        operators = {spec.operator for spec in each.specifier}
        assert operators == {">=", "<"}, f"{each} in setup.cfg"


@pytest.mark.parametrize(("name", "extras"), [("run", ["embedded"]), ("dev", ["embedded", "dev"])])
def test_each_package_is_pinned_within_its_range_and_by_hashes(name, extras):
    found = pinned(name)
    for each in wanted(*extras):
        assert each.name in found, f"{each}: run scripts/lock"
        for version, _ in found[each.name]:
            assert each.specifier.contains(version), f"{each} is pinned to {version}: run scripts/lock"
    assert [package for package, pins in found.items() if not all(hashes for _, hashes in pins)] == []


def test_what_is_tested_is_what_runs():
    run, dev = pinned("run"), pinned("dev")
    assert {name: pins for name, pins in dev.items() if name in run} == run


def test_the_build_tools_have_no_known_vulnerability():
    found = pinned("build")
    assert {name: pins[0][0] >= SAFE[name] for name, pins in found.items()} == {"pip": True, "setuptools": True}


@pytest.mark.parametrize("name", ["build", "run", "dev"])
def test_pinned_packages_name_no_server(name):
    text = (ROOT / "requirements" / f"{name}.txt").read_text()
    assert "://" not in text
    assert not re.search(r"^\s*-(-index|-extra|-find|i |f )", text, re.MULTILINE)


REPORT = {
    "dependencies": [
        {"name": "good", "version": "1", "vulns": []},
        {"name": "bad", "version": "2", "vulns": [{"id": "PYSEC-1", "fix_versions": ["3"]}]},
        {"name": "other", "skip_reason": "not found"},
    ]
}


def test_an_audit_names_what_is_vulnerable_and_what_is_not_known():
    audit = runpy.run_path(str(ROOT / "scripts/lib/audit.py"))
    report = json.loads(json.dumps(REPORT))
    assert audit["findings"](report) == ["bad 2: PYSEC-1, fixed in 3"]
    assert audit["unaudited"](report) == ["other"]
