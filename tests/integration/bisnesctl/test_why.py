"""`bisnesctl why` for bots of a database, without processes."""

import pytest

from tests.support.outbox import accept, add_bot, entry, execute


@pytest.fixture
def connection(database, environment, opened):
    environment(DATABASE_URL=database).home.mkdir(parents=True, exist_ok=True)
    return opened[0]


def test_the_last_refusal_of_the_provider_is_named_for_an_hour(connection, tool):
    bot = add_bot(connection)
    accept(connection, entry(bot), entry(bot))
    execute(
        connection,
        "UPDATE outbox SET status = 'failed', error_code = '131026', error = 'no such number', updated_at = now()"
        " WHERE id = (SELECT min(id) FROM outbox)",
    )
    links = tool("why", "0128-0", "--json").json[0]["links"]
    assert [each["text"].partition(": ")[2] for each in links if "last refusal" in each["text"]] == [
        "131026: no such number"
    ]
    execute(connection, "UPDATE outbox SET updated_at = now() - interval '2 hours' WHERE status = 'failed'")
    assert "last refusal" not in tool("why", "0128-0", "--json").out


def test_a_problem_that_a_check_found_names_a_command_that_is_understood(connection, tool):
    bot = add_bot(connection)
    report = '{"problems": [{"code": "quality", "text": "its quality is low"}]}'
    execute(connection, "INSERT INTO bot_check (bot_id, checked_at, report) VALUES (%s, now(), %s)", (bot, report))
    [link] = [each for each in tool("why", "0128-0", "--json").json[0]["links"] if "its quality is low" in each["text"]]
    assert link["command"] == "(bisnesctl bots verify --company 0128 --phone 0)"
    assert "Usage" in tool(*link["command"].strip("()").split()[1:], "--help").text
