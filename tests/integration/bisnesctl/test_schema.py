"""The OpenAPI document holds: the API answers any request that follows it without an internal error."""

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis.errors import Unsatisfiable
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error

from tests.support.api import COMPANY, OPERATOR_KEY, add_company, serving, settings_for
from tests.support.remote.graph_api import Provider
from tests.support.waiting import HANG_SECONDS

#: Examples of each operation, of requests that follow the document and of those that do not.
EXAMPLES = 12
#: A stream never ends; it is tried elsewhere.
ENDLESS = "/api/events"


@pytest.fixture
def provider():
    """One that refuses everything."""
    found = Provider()
    yield found
    found.close()


@pytest.fixture
def document(database, tmp_path, provider):
    """The document of a running API with two companies in its database."""
    add_company(database)
    with serving(settings_for(database, tmp_path, **provider.settings)) as url:
        yield schemathesis.openapi.from_url(f"{url}/openapi/openapi.json").exclude(path=ENDLESS)


@pytest.mark.timeout(900)
@pytest.mark.parametrize("mode", [GenerationMode.POSITIVE, GenerationMode.NEGATIVE])
def test_no_request_makes_the_api_fail(document, mode):
    operations = [each.ok() for each in document.get_all_operations()]
    tried = sum(_try(operation, mode) for operation in operations)
    assert tried == len(operations) if mode is GenerationMode.POSITIVE else tried >= 3


def _try(operation, mode):
    """Call an operation in many ways; returns whether there was any: some cannot be asked wrongly."""

    @settings(max_examples=EXAMPLES, suppress_health_check=list(HealthCheck), database=None)
    @given(operation.as_strategy(generation_mode=mode))
    def call(case):
        _steer(case)
        case.call_and_validate(headers={"X-Api-Key": OPERATOR_KEY}, checks=[not_a_server_error], timeout=HANG_SECONDS)

    try:
        call()
    except Unsatisfiable:
        return False
    return True


def _steer(case):
    """Ask for a company that exists, and do not wait for a worker that is not there."""
    if "companyId" in case.path_parameters:
        case.path_parameters["companyId"] = COMPANY
    if case.query and "wait" in case.query:
        case.query["wait"] = 0.01
