"""A skill with a person's values in its calls: the text of a prompt. Pure."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

_CALL = re.compile(r"`([^`]+)`")
_NAME = re.compile(r"\b[A-Z]{3,}\b")
_ITEM = re.compile(r"- ([A-Z]{3,}): ")
_STEP = re.compile(r"\d+\. ")
_PAID = ("edit_sequence(", "edit_chain(", "generate_sequence(")


@dataclass(frozen=True, slots=True)
class Values:
    """The values that fill a skill.

    `named` are the values of names in capitals. Steps that have one of the names in `without` are left out. A call with
    `model=MODEL` is written once for each of `models`. `options` go into every paid call, `references` into every paid
    chain, `save_to` into every paid call that is not a quote. With `from_words`, calls that edit IMAGE generate from
    words alone. `more` is added at the end.
    """

    named: Mapping[str, str | int]
    without: frozenset[str] = frozenset()
    models: Sequence[Mapping[str, str]] = ()
    references: Sequence[str] = ()
    options: Mapping[str, str] | None = None
    save_to: str | None = None
    from_words: bool = False
    more: str = ""


def filled(body: str, values: Values) -> str:
    """Return a skill's procedure with the values in its calls; its steps are numbered anew.

    The explanation of a value that is filled in, or not needed, is left out.
    """
    lines, steps = [], 0
    for text in body.splitlines():
        item, step = _ITEM.match(text), _STEP.match(text)
        if item and (item[1] in values.named or item[1] in values.without):
            continue
        if step and values.without.intersection(_NAME.findall(text)):
            continue
        steps += bool(step)
        numbered = _STEP.sub(f"{steps}. ", text, count=1) if step else text
        lines.append(_CALL.sub(lambda quoted: _calls(quoted[1], values), numbered))
    return "\n".join([*lines, *(["", values.more] if values.more else [])])


def literal(value: str | int) -> str:
    """Return a value as a literal that both Python and JSON read; a backquote in it would end the call."""
    return json.dumps(value.replace("`", "'") if isinstance(value, str) else value, ensure_ascii=False)


def _calls(call: str, values: Values) -> str:
    return ", ".join(f"`{_call(one, values)}`" for one in _of_each_model(call, values))


def _of_each_model(call: str, values: Values) -> list[str]:
    if "model=MODEL" not in call or not values.models:
        return [call]
    return [call.replace("model=MODEL", _arguments(model)[2:]) for model in values.models]


def _call(call: str, values: Values) -> str:
    # Only names are replaced, outside of texts: a value may itself have a word in capitals.
    parts = re.split(r'("(?:[^"\\]|\\.)*")', call)
    for i in range(0, len(parts), 2):
        parts[i] = _NAME.sub(lambda name: _value(name[0], values), parts[i])
    if values.from_words:
        parts[0] = parts[0].replace("edit_sequence(images=[IMAGE], ", "generate_sequence(")
    call = "".join(parts).replace('"look:" + "', '"look:')
    if not call.startswith(_PAID) or "/failed" in call:
        return call
    more = _arguments(values.options or {})
    if values.references and call.startswith("edit_chain("):
        more += f", references=[{', '.join(map(literal, values.references))}]"
    if values.save_to and "dry_run=True" not in call and "save_to=" not in call:
        more += f", save_to={literal(values.save_to)}"
    return f"{call[:-1]}{more})"


def _value(name: str, values: Values) -> str:
    return literal(values.named[name]) if name in values.named else name


def _arguments(given: Mapping[str, str]) -> str:
    return "".join(f", {name}={literal(value)}" for name, value in given.items())
