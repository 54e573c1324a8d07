"""The release that runs is known without starting git."""

import subprocess
from pathlib import Path

import pytest

import bisnesctl
from bisnesctl import release

REVISION = "9757afe4be0123456789012345678901234567ab"


def git(folder: Path, *words: str) -> str:
    command = ["git", "-c", "user.name=x", "-c", "user.email=x@example.org", "-C", str(folder), *words]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    folder = tmp_path / "checkout"
    folder.mkdir()
    git(folder, "init", "-q", "-b", "main")
    git(folder, "commit", "-q", "--allow-empty", "-m", "one")
    return folder


def test_the_revision_of_a_branch_a_tag_and_a_worktree_is_that_of_git(checkout: Path) -> None:
    head = git(checkout, "rev-parse", "HEAD")
    assert release.revision_of(checkout) == head
    git(checkout, "pack-refs", "--all")
    assert release.revision_of(checkout) == head
    git(checkout, "worktree", "add", "-q", "-b", "other", str(checkout.parent / "other"))
    git(checkout.parent / "other", "commit", "-q", "--allow-empty", "-m", "two")
    assert release.revision_of(checkout.parent / "other") == git(checkout.parent / "other", "rev-parse", "HEAD") != head
    git(checkout, "checkout", "-q", "--detach")
    assert release.revision_of(checkout) == head


@pytest.mark.parametrize("content", ["", "ref: refs/heads/none", "nonsense", "ref: ../../../etc/passwd"])
def test_a_damaged_checkout_has_none(tmp_path: Path, content: str) -> None:
    (tmp_path / ".git").mkdir()
    (tmp_path / ".git" / "HEAD").write_text(content)
    assert release.revision_of(tmp_path) == ""


def test_an_installed_package_has_only_its_version(tmp_path: Path) -> None:
    assert release.revision_of(tmp_path) == ""
    assert str(release.Release("1.2.3")) == "1.2.3"
    assert str(release.Release("1.2.3", REVISION[:10])) == "1.2.3 (9757afe4be)"
    assert release.installed().version == bisnesctl.__version__
