"""The feed's description of itself."""

import re

import pytest
from openapi_spec_validator import OpenAPIV31SpecValidator, validate

from feed.app import ROUTES
from feed.openapi import OPERATIONS, openapi


@pytest.mark.parametrize("needs_token", [None, False, True])
def test_the_description_is_openapi_3_1(needs_token: bool | None) -> None:
    """As its own parser has it, also where it says that a token is needed."""
    described = openapi(needs_token)

    validate(described, cls=OpenAPIV31SpecValidator)
    assert ({"token": []} in described["security"], {} in described["security"]) == (
        needs_token is not False,
        needs_token is not True,
    )


def test_every_route_for_clients_is_described() -> None:
    """And nothing else."""
    routes = {
        (method, re.sub(r":\w+}", "}", route.path))
        for route in ROUTES
        for method in (route.methods or set()) - {"HEAD"}
        if route.path.startswith("/v1/")
    }

    assert {(each.method.upper(), each.path) for each in OPERATIONS} == routes


def test_every_type_says_what_its_fields_are() -> None:
    """All are in the components; a client is generated from them."""
    schemas = openapi()["components"]["schemas"]

    assert {"UserList", "ListedItem", "Neighbours", "PopularList", "ClickIn", "ClicksTaken", "SessionIn"} <= set(
        schemas
    )
    assert schemas["ClickIn"]["additionalProperties"] is False
    assert schemas["ClickIn"]["required"] == ["user_id", "item_id"]
