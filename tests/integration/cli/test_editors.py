"""The editors of JSON, TOML and YAML: one value comes and goes, and every other line stays."""

from __future__ import annotations

import json
import tomllib
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from triptych.cli.editors import json_text, toml_text, yaml_text

NAMES = st.text("abcXY_-. 1é", min_size=1, max_size=5)
SCALARS = st.none() | st.booleans() | st.integers(-99, 99) | st.text("ab 1:#'\"-{}[],é\\&*!", max_size=6)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=3),
    max_leaves=6,
)
ENTRY = st.dictionaries(
    NAMES,
    SCALARS | st.lists(st.text("ab 1:#'\"é", max_size=5), max_size=3) | st.dictionaries(NAMES, SCALARS, max_size=3),
    min_size=1,
    max_size=4,
)


def changed(text: str, entry: dict[str, Any]) -> str | None:
    try:
        return yaml_text.put(text, ("extensions", "triptych"), entry)
    except ValueError:
        return None


@settings(max_examples=100)
@given(st.dictionaries(NAMES, VALUES, max_size=3), st.dictionaries(NAMES, VALUES, max_size=3), ENTRY, st.booleans())
def test_every_yaml_file_is_edited_rightly_or_refused(
    rest: dict[str, Any], extensions: dict[str, Any], entry: dict[str, Any], sort: bool
) -> None:
    whole = rest | {"extensions": extensions}
    text = yaml.safe_dump(whole, sort_keys=sort, allow_unicode=True)
    after = changed(text, entry)
    if after is None:
        return
    assert yaml.safe_load(after) == whole | {"extensions": extensions | {"triptych": entry}}
    assert yaml_text.get(after, ("extensions", "triptych")) == entry
    assert changed(after, entry) == after
    gone = yaml_text.drop(after, ("extensions", "triptych"))
    assert (yaml.safe_load(gone) or {}) == (whole if extensions else rest)
    if extensions:
        assert gone == text


@settings(max_examples=100)
@given(ENTRY)
def test_an_entry_that_the_host_wrote_again_is_read(entry: dict[str, Any]) -> None:
    text = yaml.safe_dump({"extensions": {"triptych": entry}, "x": 1}, allow_unicode=True, width=1000)
    try:
        assert yaml_text.get(text, ("extensions", "triptych")) == entry
    except ValueError:
        return


def test_gooses_own_form_is_read_whole() -> None:
    text = (
        "extensions:\n  triptych:\n    enabled: true\n    type: stdio\n    name: triptych\n    description: It's so\n"
        "    cmd: /opt/my triptych\n    args: []\n    envs:\n      A: '1'\n      B: x:y\n    env_keys:\n    - A_KEY\n"
        "    timeout: 300\n    bundled: null\n    available_tools: []\nGOOSE_MODEL: x\n"
    )
    assert yaml_text.get(text, ("extensions", "triptych")) == yaml.safe_load(text)["extensions"]["triptych"]


@pytest.mark.parametrize(
    "text",
    [
        "a: 1",
        "---\n# x\n\na: |\n  extensions:\n  b\n\n",
        "extensions: {} # none\n",
        "extensions:\nb: 1\n",
        "extensions: null\r\nb: 1\r\n",
        "b:\n- extensions:\n  c: 1\nextensions:\n    four: {x: 1} # mine\n    # more\n\n# end\nz: 1\n",
    ],
)
def test_a_yaml_file_in_the_usual_form_is_edited(text: str) -> None:
    after = yaml_text.put(text, ("extensions", "triptych"), {"cmd": "x"})
    before = yaml.safe_load(text)
    assert yaml.safe_load(after) == before | {
        "extensions": (before.get("extensions") or {}) | {"triptych": {"cmd": "x"}}
    }
    assert after.count("\r\n") in (0, after.count("\n"))
    kept = iter(after)
    assert all(character in kept for character in text.replace("{} ", "").replace(" null", ""))


@settings(max_examples=100)
@given(
    st.dictionaries(st.text(max_size=3), VALUES, max_size=3),
    st.dictionaries(st.text(max_size=3), VALUES, max_size=3),
    st.sampled_from([None, 2, "\t"]),
)
def test_what_json_got_can_be_taken_out_again(other: dict[str, Any], servers: dict[str, Any], indent: Any) -> None:
    other.pop("s", None)
    text = json.dumps(other | {"s": servers}, indent=indent)
    added = json_text.put(text, ("s", "t"), {"command": "x"})
    gone = json_text.drop(added, ("s", "t"))
    assert json.loads(gone) == (other | {"s": servers} if servers and "t" not in servers else other | _left(servers))


def _left(servers: dict[str, Any]) -> dict[str, Any]:
    left = {key: value for key, value in servers.items() if key != "t"}
    return {"s": left} if left else {}


@pytest.mark.parametrize(
    ("text", "after"),
    [
        ('{"s": {"t": 1}}', "{}"),
        ('{"s": {"t": 1}, "b": 2}', '{ "b": 2}'),
        ('{"a": 1, "s": {"t": 1}}', '{"a": 1}'),
        ('{"s": {"a": 1, "t": 1, "b": 2}}', '{"s": {"a": 1, "b": 2}}'),
        ('{\n  "s": {\n    "a": 1, // one\n    "t": 2 // two\n  }\n}', '{\n  "s": {\n    "a": 1 // one // two\n  }\n}'),
        ('{"s": {"a": 1, /* , */ "t": 1,},}', '{"s": {"a": 1, /* , */},}'),
    ],
)
def test_a_member_is_cut_with_its_comma(text: str, after: str) -> None:
    assert json_text.drop(text, ("s", "t")) == after


@pytest.mark.parametrize(
    ("text", "after"),
    [
        ("a = 1\n\n[s.t]\nx = 1\n\n[s.t.env]\nA = '1'\n\n# b\n[b]\nc = 1\n", "a = 1\n\n# b\n[b]\nc = 1\n"),
        ("[s.o]\ny = 1\n\n[s.t] # mine\nx = [\n  'a', # why\n]\n", "[s.o]\ny = 1\n"),
        ("s = { o = 1, t = { x = 1 } } # all\n", "s = { o = 1  } # all\n"),
        ("s.t.x = 1\n[b]\n", "[b]\n"),
        ("[s]\nt = { x = 1 }\n", ""),
    ],
)
def test_a_table_is_cut_with_what_is_in_it(text: str, after: str) -> None:
    assert toml_text.drop(text, ("s", "t")) == after
    assert "t" not in tomllib.loads(after).get("s", {})
