"""Claims about reading live catalogues: which entries are models, and where a schema may come from."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from support.flows import HTML, answer, any_answer, any_json, drive
from triptych.core import errors
from triptych.core.offers import ListedModel
from triptych.providers import HttpRequest, atlas, client, load, wavespeed

SCHEMA = {"type": "object", "properties": {"prompt": {"type": "string"}}}
ATLAS = {
    "model": "acme/brush/edit",
    "displayName": "Brush\n\u202eEdit",
    "profile": "Edits. " * 200,
    "categories": ["IMAGE-TO-IMAGE"],
    "schema": "https://static.atlascloud.ai/model/schema/acme-brush-edit.json?v=2",
    "price": {"actual": {"base_price": "0.04", "unit": "image"}},
}
WAVESPEED = {
    "model_id": "acme/brush/edit",
    "name": "Brush",
    "type": "image-to-image",
    "base_price": 0.04,
    "api_schema": {
        "api_schemas": [
            {"type": "other"},
            {"type": "model_run", "method": "POST", "api_path": "/api/v3/acme/brush/edit", "request_schema": SCHEMA},
        ]
    },
}


def listed(name: str, *entries: Any) -> tuple[ListedModel, ...]:
    catalogue = load(name).catalogue
    assert catalogue
    code = "200" if name == "atlas" else 200
    models, _ = drive(catalogue(), answer(200, {"code": code, "data": list(entries)}))
    return models


def test_an_atlas_entry_has_its_words_bounded_and_its_price() -> None:
    (model,) = listed("atlas", ATLAS)
    assert (model.endpoint, model.title, model.usd) == ("acme/brush/edit", "Brush Edit", Decimal("0.04"))
    assert (model.kind, model.path) == ("image-to-image", "/api/v1/model/generateImage")
    assert len(model.description) <= 400 and model.schema is None


def test_the_atlas_list_is_read_without_the_key() -> None:
    assert atlas.PROVIDER.catalogue
    request = next(atlas.PROVIDER.catalogue())
    assert isinstance(request, HttpRequest) and (request.path, request.authorize) == ("/api/v1/models", False)


@pytest.mark.parametrize(
    ("change", "kind"),
    [
        ({"categories": None, "tags": ["HOT", "text_to_image"]}, "text-to-image"),
        ({"categories": None, "tags": None, "type": "Image"}, "image"),
        ({"categories": ["IMAGE-TOOLS"]}, "image-tools"),
        ({"categories": ["IMAGE-TO-VIDEO"]}, None),
        ({"categories": ["LLM"]}, None),
        ({"display_console": False}, None),
        ({"model": "../../etc"}, None),
        ({"model": 7}, None),
        ({"model": "a" * 300}, None),
    ],
)
def test_an_atlas_entry_that_makes_no_images_is_left_out(change: dict[str, Any], kind: str | None) -> None:
    models = listed("atlas", {**ATLAS, **change})
    assert [model.kind for model in models] == ([] if kind is None else [kind])


def test_a_wavespeed_entry_has_its_path_and_schema() -> None:
    (model,) = listed("wavespeed", WAVESPEED)
    assert (model.endpoint, model.path, model.schema) == ("acme/brush/edit", "/api/v3/acme/brush/edit", SCHEMA)
    assert (model.title, model.kind, model.usd) == ("Brush", "image-to-image", Decimal("0.04"))


@pytest.mark.parametrize(
    "path",
    ["/api/v3/predictions/delete", "/api/v3/media/uploads", "/api/v3/model/price", "/api/v3/", "/other/acme",
     "/api/v3/../v2/acme", "https://evil.example/api/v3/acme", "/api/v3//evil.example", "/api/v3/acme?x=1", 7, None],
)  # fmt: skip
def test_a_submit_goes_only_to_a_models_path(path: Any) -> None:
    run = {"type": "model_run", "api_path": path, "request_schema": SCHEMA}
    assert listed("wavespeed", {**WAVESPEED, "api_schema": {"api_schemas": [run]}}) == ()


@pytest.mark.parametrize("kind", ["image-to-video", "llm", "training", "text-to-speech", "image-to-3d"])
def test_a_wavespeed_entry_without_images_is_left_out(kind: Any) -> None:
    assert listed("wavespeed", {**WAVESPEED, "type": kind}) == ()


@pytest.mark.parametrize(
    ("formula", "usd"),
    [(None, "0.04"), ("", "0.04"), ("price", "0.04"), ("price * num_images", "0.04"), ("price * megapixels", None),
     ({}, "0.04"), (["x"], None)],
)  # fmt: skip
def test_a_base_price_of_no_image_is_not_taken(formula: Any, usd: str | None) -> None:
    (model,) = listed("wavespeed", {**WAVESPEED, "formula": formula})
    assert model.usd == (None if usd is None else Decimal(usd))


@pytest.mark.parametrize(("name", "entry"), [("atlas", ATLAS), ("wavespeed", WAVESPEED)])
def test_a_broken_entry_hides_no_other(name: str, entry: dict[str, Any]) -> None:
    broken = [None, 3, [], {}, {key: [{}] for key in entry}, {key: {"x": None} for key in entry}]
    assert [model.endpoint for model in listed(name, *broken, entry, *broken, entry)] == ["acme/brush/edit"]


@pytest.mark.parametrize("name", ["atlas", "wavespeed"])
@pytest.mark.parametrize("body", [HTML, {"code": 500, "data": None}, {"data": []}, [], "x"])
def test_no_list_is_an_outage(name: str, body: Any) -> None:
    catalogue = load(name).catalogue
    assert catalogue
    with pytest.raises(errors.TriptychError):
        drive(catalogue(), answer(200, body))


@given(
    any_answer(
        any_json(
            st.none() | st.booleans() | st.integers() | st.text(max_size=9),
            st.sampled_from(
                [
                    "data",
                    "model",
                    "model_id",
                    "categories",
                    "tags",
                    "price",
                    "actual",
                    "schema",
                    "api_schema",
                    "api_schemas",
                ]
            ),
        )
    )
)
def test_any_list_is_models_or_an_error_of_ours(response: Any) -> None:  # fmt: skip
    for catalogue in (atlas.PROVIDER.catalogue, wavespeed.PROVIDER.catalogue):
        assert catalogue
        try:
            models, _ = drive(catalogue(), response)
        except errors.TriptychError:
            continue
        assert all(isinstance(model, ListedModel) for model in models)


# -- schemas


def schema_flow(url: str) -> Any:
    assert atlas.PROVIDER.schema
    return atlas.PROVIDER.schema(ListedModel("a/b", "", "image-to-image", "/p", schema_url=url))


def test_the_static_host_is_asked_without_the_key() -> None:
    document = {"components": {"schemas": {"Input": {"$ref": "#/components/schemas/X"}, "X": SCHEMA}}}
    found, (request,) = drive(schema_flow(ATLAS["schema"]), answer(200, document))  # type: ignore[arg-type]
    assert (request.base, request.path) == ("static", "/model/schema/acme-brush-edit.json?v=2")
    assert not request.authorize
    assert found["components"]["schemas"]["X"] == SCHEMA


@pytest.mark.parametrize(
    "url",
    ["https://evil.example/s.json", "http://static.atlascloud.ai/s.json", "https://static.atlascloud.ai:8443/s.json",
     "https://static.atlascloud.ai.evil.example/s.json", "https://x@static.atlascloud.ai/s.json",
     "https://169.254.169.254/latest", "http://127.0.0.1:9/s.json"],
)  # fmt: skip
def test_a_schema_elsewhere_is_for_the_apis_origin_alone(url: str) -> None:
    request = next(schema_flow(url))
    account = client.Account(atlas.PROVIDER)
    with pytest.raises(errors.NotAllowed):
        client._url(account, request)


def test_a_schema_of_more_than_two_megabytes_is_not_read() -> None:
    with pytest.raises(errors.Refused, match="more than 2 MB"):
        drive(schema_flow(str(ATLAS["schema"])), answer(200, b'{"x":"' + b"x" * 2_000_001 + b'"}'))


@pytest.mark.parametrize("body", [HTML, [], {}, {"components": {"schemas": {"Input": []}}}, {"components": 3}])
def test_a_document_without_an_input_is_refused(body: Any) -> None:
    with pytest.raises(errors.Refused):
        drive(schema_flow(str(ATLAS["schema"])), answer(200, body))
