"""Every command line that a document or a message of ours names is one that the tool understands."""

import pytest

from tests.support import command_lines
from tests.support.command_lines import VALUE, CommandLine
from tests.support.documents import DOCUMENTS, ROOT, name

GROUP = command_lines.root()
LINES = sorted(
    {
        *command_lines.in_sources(ROOT),
        *(line for path in DOCUMENTS for line in command_lines.in_text(path.read_text(), name(path))),
    }
)


def test_the_tool_understands_every_line_that_is_named():
    refused = {str(line): reason for line in LINES if (reason := command_lines.refusal(line, GROUP))}
    assert refused == {}


def test_lines_are_found_in_documents_in_hints_and_in_examples():
    places = {line.place.partition(":")[0] for line in LINES}
    assert {"README.md", "docs/runbooks.md", "bisnesctl/signals/queues.py", "bisnesctl/bots/hold_ends.py",
            "bisnesctl/diagnosis/numbers.py", "bisnesctl/cli/start.py", "bisnesctl/cli/app.py",
            "services/connectors/wwebjs/sending/send_guard.py"} <= places  # fmt: skip


@pytest.mark.parametrize(
    "words",
    [
        "bots unblock --company 0128 --phone 1", f"bots unblock --company {VALUE}", "restrat", "queue statistics",
        "start --multi", "dead-letters resolve", "logs --lines many", "queue stats 0128/0 now",
        f"bots limit {VALUE} --per-hour one", "status --message",
    ],
)  # fmt: skip
def test_a_line_that_the_tool_refuses_is_found(words):
    assert command_lines.refusal(CommandLine(words, "here", is_quoted=False), GROUP)


@pytest.mark.parametrize(
    ("words", "is_quoted"),
    [
        ("bots unblock 0128 1", False), (f"bots unblock {VALUE}", False), ("queue resume", True), ("queue", True),
        ("dead-letters resolve --as sent|failed|again ID", False), ("restart NAME", False), ("start --help", False),
        (f"bots add {VALUE} --token-stdin", False), (f"{VALUE} --user", False),
    ],
)  # fmt: skip
def test_a_line_that_the_tool_understands_is_not_reported(words, is_quoted):
    assert command_lines.refusal(CommandLine(words, "here", is_quoted), GROUP) == ""


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("See `bisnesctl status`, then wait", ["status"]),
        ("See `sudo bisnesctl startup --name x | tee log`", ["startup --name x"]),
        ("\n```sh\nbisnesctl logs api \\\n    --lines 5  # the last ones\n```\n", ["logs api --lines 5"]),
        ("the tool bisnesctl starts it; `bisnesctl/cli/start.py`", []),
    ],
)
def test_lines_are_cut_out_of_a_document(text, words):
    assert [line.words for line in command_lines.in_text(text, "here")] == words
