"""The block of a deployment in a crontab: one, replaced in place, and nothing else changes."""

import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bisnesctl.errors import ConfigError, Conflict
from bisnesctl.host import crontab
from bisnesctl.processes import cron_block
from bisnesctl.settings import Settings
from tests.support.processes.servers import settings_in
from tests.support.waiting import HANG_SECONDS

BEGIN, END = "# BEGIN ours", "# END ours"
BLOCK = [BEGIN, "* * * * * job", END]
LINE = st.text(st.characters(exclude_characters="\n"), max_size=20).filter(
    lambda line: line.strip() not in (BEGIN, END)
)
TABLE = st.lists(LINE, max_size=8).map("\n".join)


@given(TABLE)
def test_every_other_line_stays_as_it_is(table):
    added = crontab.with_block(table, BLOCK)
    assert crontab.block_in(added, BEGIN, END) == BLOCK
    assert added.startswith(table)
    removed = crontab.without_block(added, BEGIN, END)
    assert removed == table or removed == f"{table}\n"


@given(TABLE, TABLE)
def test_a_block_is_replaced_where_it_stands(before, after):
    table = crontab.with_block(f"{before}\n", [BEGIN, "an old line", "another", END]) + after
    found = crontab.with_block(table, BLOCK)
    assert found == f"{before}\n" + "\n".join(BLOCK) + f"\n{after}"
    assert crontab.with_block(found, BLOCK) == found


def test_more_than_one_block_becomes_one():
    block = "\n".join(BLOCK)
    found = crontab.with_block(f"a\n{block}\nb\n{block}\nc\n", BLOCK)
    assert found == f"a\n{block}\nb\nc\n"


def test_a_block_without_its_end_is_left_to_the_operator():
    for change in (
        lambda: crontab.with_block(f"a\n{BEGIN}\nb\n", BLOCK),
        lambda: crontab.without_block(BEGIN, BEGIN, END),
    ):
        with pytest.raises(Conflict, match="crontab -e"):
            change()


def made_settings(folder: Path) -> Settings:
    folder.mkdir(parents=True)
    return settings_in(folder)


def test_two_deployments_have_blocks_of_their_own(tmp_path: Path) -> None:
    one, other = (cron_block.render(made_settings(tmp_path / name), heal=False) for name in ("one", "other"))
    both = crontab.with_block(crontab.with_block("", one), other)
    assert crontab.without_block(both, one[0], one[-1]) == crontab.with_block("", other)


@pytest.mark.parametrize("name", ["plain", "with a blank", "per%cent", "quo'te", "dollar$HOME", "ünicode"])
def test_a_command_of_the_block_runs_in_the_environment_of_cron(tmp_path: Path, name: str) -> None:
    """As cron runs it: `\\%` is a percent sign, the shell is /bin/sh, and the environment is nearly empty."""
    settings = made_settings(tmp_path / name)
    lines = [each for each in cron_block.render(settings, heal=True) if not each.startswith("#")]
    assert lines[0].split()[:2] == ["*", "*"]
    assert lines[0].endswith("cron probe --quiet --heal")
    assert lines[1].endswith("cron clean-up --quiet")
    command = lines[0].split(maxsplit=5)[5].replace(r"\%", "%")
    code = "import os; print(os.environ['BISNES_ENV'], os.environ['HOME'] != '', '/usr/bin' in os.environ['PATH'])"
    probe = command.replace("-m bisnesctl cron probe --quiet --heal", f"-c {shlex.quote(code)}")
    done = subprocess.run(
        ["/bin/sh", "-c", probe], env={"SHELL": "/bin/sh"}, capture_output=True, text=True, timeout=HANG_SECONDS,
        check=True,
    )  # fmt: skip
    assert done.stdout.strip() == f"{settings.env_file} True True"


def test_the_form_for_etc_cron_d_names_the_user(tmp_path: Path) -> None:
    lines = cron_block.render(settings_in(tmp_path), heal=False, system=True)
    user = cron_block._user().pw_name
    assert [line.split(maxsplit=6)[5] for line in lines if not line.startswith("#")] == [user, user]
    assert sys.executable in lines[3]


def test_a_path_that_a_crontab_cannot_express_is_refused(tmp_path: Path) -> None:
    for name in ("line\nbreak", "a" * 250 + "/" + "b" * 250 + "/" + "c" * 250):
        with pytest.raises(ConfigError, match="crontab"):
            cron_block.render(made_settings(tmp_path / name), heal=False)
