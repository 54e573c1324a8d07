"""The checker of words, which is no module of a package: what it finds, and what it leaves alone."""

import importlib.util
import sys
import tomllib
from pathlib import Path

import pytest

CHECKER = Path(__file__).parents[3] / "scripts" / "lib" / "prose.py"


@pytest.fixture(scope="module")
def prose():
    spec = importlib.util.spec_from_file_location("prose", CHECKER)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def hits(prose, tmp_path, monkeypatch):
    """The lines and words of the hits in a file of this name and text."""
    monkeypatch.setattr(prose, "ROOT", tmp_path)
    vocabulary = prose.Vocabulary(tomllib.loads(prose.VOCABULARY.read_text()))

    def found(name, text):
        (tmp_path / name).write_text(text)
        return [(hit.line, hit.words) for hit in sorted(prose.check(Path(name), vocabulary))]

    return found


@pytest.mark.parametrize(
    ("sentence", "words"),
    [
        ("The database is away.", "away"),
        ("The connection is made anew.", "anew"),
        ("Each caller is told once.", "told"),
        ("The report tells of it.", "tells"),
        ("Send it so often.", "so often"),
        ("Whatever they are at, messages go first.", "Whatever"),
        ("A message that was given up is kept.", "given up"),
        ("The file is not to be had.", "be had"),
        ("Returns the name, None where it has no name.", "None where"),
        ("Read it. Raises ValueError where it is empty.", "Raises ValueError where"),
        ("A list, empty where there is none.", "empty where"),
        ("What came from the phone is stored.", "What"),
        ("It is stored. Who asks is counted.", "Who"),
        ("Where the disk is full, it waits.", "Where"),
        ("The number sends no more.", "no more"),
    ],
)
def test_a_phrase_to_avoid_is_found(hits, sentence, words):
    assert (1, words) in hits("a.md", sentence)


@pytest.mark.parametrize(
    "sentence",
    [
        "If the database is unavailable, the message is stored again.",
        "Answers right away, without waiting for the database.",
        "You can tell the two apart: nobody can tell otherwise.",
        "This tells supervisord to reload its configuration.",
        "What is a lane? Who reads it? A row that keeps the order of a chat.",
        "## What runs\n\n## Where a line belongs",
        "Checks what the page shows, and where the file is stored.",
        "The folder where it is stored. Wherever possible, the name is kept.",
        "It needs no more than ten seconds, and it works well.",
        "It keeps so many that the disk fills up, for good reason.",
        "Where possible, the profile is reused.",
        "The fallaway, retold, newsletter and throw-away words are whole words.",
    ],
)
def test_plain_english_is_left_alone(hits, sentence):
    assert hits("a.md", sentence) == []


def test_code_in_a_document_is_no_prose(hits):
    fenced = "Look:\n\n```sh\necho away\n```\n\n  ~~~\n  told\n  ~~~\n"
    inline = 'The state `away`, the word "told", ``a ` told`` and [a link](away.md) at <https://told.example/away>.\n'
    assert hits("a.md", fenced + inline) == []
    assert hits("b.md", fenced + inline + "It is away.") == [(11, "away")]


def test_a_page_of_html(hits):
    page = '<p title="away">{{ away }} is {# told #} here</p><script>away()</script>\n<p>It is away.</p>'
    assert hits("a.html", page) == [(2, "away")]


def test_docstrings_comments_and_messages_of_python(hits):
    source = '''"""Reads the table.

What it finds is kept.
"""
import log

told = {"away": "told"}  # it is away
#: Kept so
#: many times.
LIMIT = 3


def whatever(anew):
    """Where it is empty, nothing, not even "told"."""
    log.info("Redis is " "away", told=anew)
    log.info(f"told {anew} {whatever(anew)}\\naway", extra="away")
    return "the `told` table"
'''
    assert hits("a.py", source) == [
        (3, "What"),
        (7, "away"),
        (8, "so #: many"),
        (14, "Where"),
        (15, "away"),
        (16, "away"),
        (16, "told"),
    ]


def test_sql_is_no_prose_but_its_comments(hits):
    source = 'Q = """\n    SELECT told AS away -- what is away\n    FROM news -- told\n"""\n'
    assert hits("a.py", source) == [(2, "away"), (3, "told")]


def test_positions_count_characters(hits):
    assert hits("a.py", 'A = ("…€" * 3, "Redis is away")  # told\n') == [(1, "away"), (1, "told")]


def test_comments_and_strings_of_javascript(hits):
    source = """/** The page is away. */
const told = { away: 'told' }; // so
// many
throw new Error(`the ${anew} is away`);
"""
    assert hits("a.js", source) == [(1, "away"), (2, "so // many"), (4, "away")]


def test_comments_and_messages_of_a_shell_script(hits):
    source = '#!/usr/bin/env bash\n# The server is away.\ntold=${away#told}\nsay "Redis is away"\n'
    assert hits("start", source) == [(2, "away"), (4, "away")]
    assert hits("start.txt", source.replace("#!/usr/bin/env bash", "")) == []


def test_excluded_and_unchecked_paths_are_skipped(prose, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(prose, "ROOT", tmp_path)
    monkeypatch.setattr(prose, "VOCABULARY", tmp_path / "prose.toml")
    lists = 'excluded = ["samples"]\nunchecked = ["old"]\nallowed = ["right away"]\n'
    prose.VOCABULARY.write_text(lists + '[words]\n"away" = "gone"\n[sentence_starts]\n')
    for folder in ("old", "older", "samples", ".hidden", "node_modules"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "a.md").write_text("away")
    assert prose.main([]) == 1
    assert capsys.readouterr().out == 'older/a.md:1: "away": write gone\n'
    assert prose.main([str(tmp_path / "old"), str(tmp_path / "samples")]) == 1
    assert capsys.readouterr().out == 'old/a.md:1: "away": write gone\n'
    (tmp_path / "older" / "a.md").write_text("right away")
    assert prose.main([]) == 0
    assert capsys.readouterr().out == ""
