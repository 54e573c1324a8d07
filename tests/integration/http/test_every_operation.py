"""Requests that are generated from the OpenAPI document: none meets a fault of ours; each error has the one form."""

import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings

from services.http_server.error_codes import ErrorCode
from tests.support.api import COMPANY, KEY, OPERATOR_KEY, add_company, serving, settings_for
from tests.support.waiting import HANG_SECONDS

#: Generated requests for each operation.
EXAMPLES = 12
#: The status of each code.
STATUSES = {code.value: code.status for code in ErrorCode}
#: Designed errors: nothing is behind the addresses of the providers.
DESIGNED = {ErrorCode.PROVIDER_UNAVAILABLE}


@pytest.fixture(scope="module")
def url(postgres, tmp_path_factory):
    name = "every_operation"
    postgres.run(f"CREATE DATABASE {name} TEMPLATE bisnes_migrated")
    add_company(postgres.dsn(name))
    with serving(settings_for(postgres.dsn(name), tmp_path_factory.mktemp("api"))) as url:
        yield url


def check(answer):
    """Either a success or an error in our form, and none that is our fault."""
    if answer.status_code < 400:
        return
    problem = answer.json()
    assert answer.headers["content-type"] == "application/json"
    assert problem["success"] is False
    assert problem["error"]
    assert STATUSES[problem["code"]] == answer.status_code
    assert answer.status_code < 500 or problem["code"] in DESIGNED, problem


@pytest.mark.parametrize("key", [KEY, OPERATOR_KEY])
def test_no_generated_request_meets_a_fault(url, key):
    """A company's key is used for its own company, so that the routes behind the check of the key are reached."""
    session = requests.Session()
    document = schemathesis.openapi.from_url(f"{url}/openapi/openapi.json")
    operations = [found.ok() for found in document.get_all_operations()]
    assert len(operations) > 40
    for operation in operations:
        if operation.path == "/api/events":  # it never ends
            continue

        @settings(
            max_examples=EXAMPLES, derandomize=True, phases=[Phase.generate], suppress_health_check=list(HealthCheck)
        )
        @given(operation.as_strategy())
        def call(case):
            if key == KEY and case.path_parameters.get("companyId"):
                case.path_parameters["companyId"] = COMPANY
            request = case.as_transport_kwargs(base_url=url)
            request["headers"] = dict(request.get("headers") or {}) | {"X-Api-Key": key}
            check(session.request(**request, timeout=HANG_SECONDS))

        call()
