"""The models of the events' payloads."""

import pytest
from pydantic import ValidationError

from services.events.names import CATALOGUE
from services.events.payloads import PAYLOADS, example


def test_every_event_has_a_model() -> None:
    assert PAYLOADS.keys() == CATALOGUE.keys()


@pytest.mark.parametrize("name", CATALOGUE)
def test_the_example_of_a_payload_is_valid(name: str) -> None:
    PAYLOADS[name].model_validate(example(PAYLOADS[name]))


@pytest.mark.parametrize("name", CATALOGUE)
def test_a_field_that_no_model_has_is_refused(name: str) -> None:
    with pytest.raises(ValidationError, match="Extra inputs are not permitted"):
        PAYLOADS[name].model_validate(example(PAYLOADS[name]) | {"more": 1})
