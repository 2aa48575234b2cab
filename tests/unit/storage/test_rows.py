"""Columns become the values that pydantic makes of the same JSON: it wrote them, and read them in earlier versions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from decimal import Decimal
from enum import Enum
from types import NoneType, UnionType
from typing import Any, get_args, get_origin, get_type_hints

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter
from pydantic_core import to_json

from triptych.core.models import Failure, Layer, Route
from triptych.core.offers import Offer, Price
from triptych.core.requests import Request
from triptych.storage import rows

TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=6)
PLAIN = {
    str: TEXTS,
    int: st.integers(-(2**62), 2**62),
    bool: st.booleans(),
    float: st.floats(allow_nan=False, allow_infinity=False),
    Decimal: st.decimals(0, 10**9, places=9, allow_nan=False, allow_infinity=False),
    NoneType: st.none(),
    Any: st.recursive(
        st.none() | st.booleans() | st.integers(-9, 9) | TEXTS, lambda inner: st.lists(inner, max_size=2), max_leaves=3
    ),
}


def values(hint: Any) -> st.SearchStrategy[Any]:
    """Return the values of a type."""
    kind, parts = get_origin(hint), get_args(hint)
    if hint in PLAIN:
        return PLAIN[hint]
    if kind is UnionType:
        return st.one_of(*map(values, parts))
    if kind is Mapping:
        return st.dictionaries(values(parts[0]), values(parts[1]), max_size=2)
    if kind is tuple:
        several = parts[1:] == (...,)
        return st.lists(values(parts[0]), max_size=2).map(tuple) if several else st.tuples(*map(values, parts))
    if is_dataclass(hint):
        hints = get_type_hints(hint)
        return st.builds(hint, **{one.name: values(hints[one.name]) for one in fields(hint)})
    assert issubclass(hint, Enum)
    return st.sampled_from(list(hint))


KINDS = (Request, Offer, Failure, Layer, tuple[Route, ...], tuple[str | None, ...], tuple[int, int])


@pytest.mark.parametrize("kind", KINDS, ids=str)
@given(data=st.data())
@settings(max_examples=20)
def test_a_column_is_read_as_pydantic_reads_it(kind: Any, data: st.DataObject) -> None:
    text = to_json(data.draw(values(kind))).decode()
    assert rows.value(kind, text) == TypeAdapter(kind).validate_json(text)


def test_a_field_that_an_earlier_version_lacked_has_its_default() -> None:
    assert rows.value(Request, '{"tool":"edit_chain","prompts":["a"]}') == Request("edit_chain", ("a",))


def test_a_field_of_a_later_version_is_left_out() -> None:
    text = '{"kind":"deadline","message":"late","retryable":true,"advice":"wait"}'
    assert rows.value(Failure, text) == Failure("deadline", "late", True)


def test_an_amount_keeps_its_digits_as_a_number_too() -> None:
    price = rows.value(Price, '{"usd_per_image":0.1,"as_of":"2026-11-01","source":"page","above":[[9,"0.30"]]}')
    assert (price.usd_per_image, str(price.above[0][1])) == (Decimal("0.1"), "0.30")


def test_a_type_that_no_column_has_is_refused() -> None:
    with pytest.raises(TypeError, match="cannot be read"):
        rows.value(set[str], "[]")
