"""No secret is shown: variables, command lines, addresses."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bisnesctl import masking
from bisnesctl.settings import Settings

SECRET = "s3cr3t"
SETTINGS = {name.upper() for name, field in Settings.model_fields.items() if "SecretStr" in str(field.annotation)}


@pytest.mark.parametrize(
    "name",
    [*sorted(SETTINGS), "AWS_SECRET_ACCESS_KEY", "GITHUB_TOKEN", "PGPASSWORD", "MY_DB_DSN", "API_KEY", "apikey",
     "SSH_PRIVATE", "HTTP_AUTHORIZATION", "SESSION_COOKIE", "SMTP_PASSWD", "MAIL_PASS", "GITHUB_PAT"],
)  # fmt: skip
def test_the_value_of_a_secret_is_masked_and_its_name_stays(name: str) -> None:
    assert masking.environment({name: SECRET}, SETTINGS) == {name: "***"}


@pytest.mark.parametrize(
    "name", ["PATH", "LANG", "PATTERN", "COMPASS", "META_ATTEMPTS", "PWD", "HOME", "MONKEY", "QUOTA_IDEMPOTENCY_KEYS"]
)
def test_other_values_stay(name: str) -> None:
    assert masking.environment({name: "value"}, SETTINGS) == {name: "value"}


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (f"http://user:{SECRET}@proxy:3128", "http://***@proxy:3128"),
        (f"postgresql://bisnes:{SECRET}@db/bisnes", "postgresql://***@db/bisnes"),
        (f"host=db password={SECRET} user=x", "host=db password=*** user=x"),
        (f"host=db password='a {SECRET}' user=x", "host=db password=*** user=x"),
        (f'password="{SECRET}', "password=***"),
        (f"http://user:p@{SECRET}@proxy:3128/a@b", "http://***@proxy:3128/a@b"),
        ("https://example.org/path", "https://example.org/path"),
    ],
)
def test_credentials_inside_a_value_are_masked(value: str, shown: str) -> None:
    assert masking.environment({"HTTPS_PROXY": value}) == {"HTTPS_PROXY": shown}


@pytest.mark.parametrize(
    ("words", "shown"),
    [
        (["x", "--token", SECRET, "-v"], ["x", "--token", "***", "-v"]),
        (["x", f"--api-key={SECRET}"], ["x", "--api-key=***"]),
        (["x", f"--proxy=http://u:{SECRET}@h"], ["x", "--proxy=http://***@h"]),
        (["gunicorn", "-b", "fd://0", "services.api.asgi:app"], ["gunicorn", "-b", "fd://0", "services.api.asgi:app"]),
    ],
)
def test_a_command_line_shows_no_secret(words: list[str], shown: list[str]) -> None:
    assert masking.command_line(words) == shown


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("https://shop.example/hooks/orders", "https://shop.example/hooks/orders"),
        (f"https://u:{SECRET}@shop.example/h?token={SECRET}", "https://***@shop.example/h?***"),
        ("https://hooks.example/services/T00000000/B00000000/abcDEF123456ghiJKL7890",
         "https://hooks.example/services/T00000000/B00000000/***"),
        ("https://shop.example:8443/a", "https://shop.example:8443/a"),
    ],
)  # fmt: skip
def test_the_address_of_a_webhook_keeps_only_what_names_it(url: str, shown: str) -> None:
    assert masking.address(url) == shown


@given(st.text(), st.text())
def test_anything_can_be_masked(name: str, value: str) -> None:
    masking.environment({name: value})
    masking.command_line([name, value])
    masking.address(value)
