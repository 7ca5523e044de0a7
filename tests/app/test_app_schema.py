"""The committed OpenAPI schema, from which the frontend's types are generated, matches the code."""

import io
import json
from pathlib import Path
from typing import Any

import pytest
from django.core.management import call_command

COMMITTED = "frontend/openapi.json"


@pytest.fixture
def schema() -> str:
    out = io.StringIO()
    call_command("spectacular", "--format", "openapi-json", "--fail-on-warn", "--validate", stdout=out)
    return out.getvalue()


def test_the_committed_schema_is_current(schema: Any, app_folder: Path) -> None:
    committed = (app_folder / COMMITTED).read_text(encoding="utf-8")
    assert json.loads(committed) == json.loads(schema), (
        "from app/: python manage.py spectacular --format openapi-json --file frontend/openapi.json, "
        "then npm run schema in app/frontend"
    )


def test_every_path_of_the_frontend_is_in_it(schema: Any) -> None:
    paths = json.loads(schema)["paths"]
    assert {"/api/v1/auth/login/", "/api/v1/me/", "/api/v1/posts/{id}/schedule/", "/api/v1/system/"} <= set(
        paths
    )
