"""Tokens → the common tokens of all panels and those of each panel: the ways in which a prompt lists variants.

Rules: the first reading that finds a list wins, the explicit ones before the guesses. No token is in two panels.

Must not know: the effect of an operation, or how a clause is read.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence

from triptych.providers.preview import vocabulary as v
from triptych.providers.preview.tokens import ImageOperation, Token, text_of

_ORDINAL_WORDS = ("first", "second", "third", "fourth", "fifth", "sixth", "seventh", "eighth", "ninth", "tenth")
_ORDINALS = {word: n for n, word in enumerate(_ORDINAL_WORDS)}
_LIST_BREAKS = frozenset({",", ";", "/", "|", "\n", "•", "→", "and", "or", "then", "finally"})
_VARIANT_WORDS = re.compile(
    r"\b(variants?|variations?|versions?|panels?|storyboard|series|sequence|set|options?|seasonal|images|pictures|photos|"
    r"frames|scenes|shots|looks|styles|moods|times|each)\b"
)

_Split = tuple[list[Token], list[list[Token]]]


def split(tokens: list[Token], count: int) -> _Split:
    """Return the tokens common to all panels, and the listed variants (none: an empty list)."""
    for reading in (_by_markers, _by_ordinals, _by_one_another):
        common, parts = reading(tokens)
        if parts:
            return common, parts
    common, parts = _by_colon(tokens, count)
    if not parts:
        common, parts = _by_range(tokens, count)
    if not parts:
        common, parts = _by_alternatives(tokens, count)
    if not parts and count > 1:
        for at, token in enumerate(tokens):
            if token.kind == "spread":
                members = [[Token("op", name, op=ImageOperation(name))] for name in token.members]
                picked = (
                    members if len(members) <= count else [members[n * len(members) // count] for n in range(count)]
                )
                return [*tokens[:at], *tokens[at + 1 :]], picked
    return common, parts


def _by_markers(tokens: list[Token]) -> _Split:
    """ "panel 1: … panel 2: …", "1) … 2) …": numbers that start at one and rise."""
    marks = [(at, int(token.value)) for at, token in enumerate(tokens) if token.kind == "marker"]
    rising = [mark for n, mark in enumerate(marks) if mark[1] == n + 1]
    if len(rising) != len(marks) or len(marks) < 2:
        return tokens, []
    return _cut(tokens, [at for at, _ in marks])


def _by_ordinals(tokens: list[Token]) -> _Split:
    """ "first … second … third", "first … then … finally"."""
    starts: list[int] = []
    for at, token in enumerate(tokens):
        if token.kind == "word":
            following = starts and token.text in ("then", "next", "finally", "lastly", "last", "afterwards")
            if _ORDINALS.get(token.text) == len(starts) or (following and at - starts[-1] > 1):
                starts.append(at)
    return _cut(tokens, starts) if len(starts) >= 2 else (tokens, [])


def _by_one_another(tokens: list[Token]) -> _Split:
    """ "one at dawn, one at noon, another at night"."""
    starts = [at for at, token in enumerate(tokens) if token.kind == "word" and token.text in ("one", "another")]
    return _cut(tokens, starts) if len(starts) >= 2 else (tokens, [])


def _cut(tokens: list[Token], starts: Sequence[int]) -> _Split:
    """Cut before every start; a sentence after the last part belongs to all panels."""
    ends = [*starts[1:], len(tokens)]
    for at in range(starts[-1] + 1, len(tokens) - 1):
        if tokens[at].text in (".", "\n") and tokens[at].kind == "stop" and at > starts[-1] + 1:
            ends[-1] = at
            break
    parts = [tokens[start:end] for start, end in zip(starts, ends, strict=True)]
    return [*tokens[: starts[0]], Token("stop", "."), *tokens[ends[-1] :]], parts


def _by_colon(tokens: list[Token], count: int) -> _Split:
    """ "four variants: spring, summer, autumn, winter. Same composition."."""
    for at, token in enumerate(tokens):
        if token.kind != "stop" or token.text not in (":", "–", "—", "("):
            continue
        rest = tokens[at + 1 :]
        marks = {one.text for one in rest if one.kind == "stop"}
        by = {";", "|", "•", "→"} & marks or {","} & marks or {"\n", "/"} & marks or {"."}
        end = len(rest)
        if "." not in by:
            end = next((n for n, one in enumerate(rest) if one.kind == "stop" and one.text in (".", ")")), end)
        items = _items(rest[:end], by)
        if items and len(items) < count and len(halves := _items(items[-1], {"and", "or"})) == 2:
            items = [*items[:-1], *halves]
        groups = [next(iter(_groups(item)), "") for item in items]
        alike = len(items) >= 2 and max(groups.count(group) if group else 0 for group in groups) >= 2
        announced = count > 1 and _VARIANT_WORDS.search(text_of(tokens[:at]))
        if len(items) >= 2 and (alike or announced or len(items) == count):
            return [*tokens[:at], Token("stop", "."), *rest[end:]], items
    return tokens, []


def _items(tokens: Sequence[Token], by: Collection[str]) -> list[list[Token]]:
    items: list[list[Token]] = [[]]
    for token in tokens:
        if token.text in by and token.kind in ("stop", "word"):
            items.append([])
        elif items[-1] or token.kind != "stop":
            items[-1].append(token)
    return [item for item in items if any(token.kind != "stop" and token.text not in ("and", "or") for token in item)]


def _groups(tokens: Sequence[Token]) -> list[str]:
    return [v.ALTERNATIVES[one.op.name] for one in tokens if one.op and one.op.name in v.ALTERNATIVES]


def _by_range(tokens: list[Token], count: int) -> _Split:
    """ "from dawn to night", spread over the panels."""
    for at in range(len(tokens) - 3):
        start, to, end = tokens[at + 1], tokens[at + 2], tokens[at + 3]
        if tokens[at].text != "from" or to.text not in ("to", "until", "through", "→") or not start.op or not end.op:
            continue
        for order in (v.SEASONS, v.TIMES):
            if count > 1 and start.op.name in order and end.op.name in order:
                first = order.index(start.op.name)
                span = (order.index(end.op.name) - first) % len(order) or len(order)
                steps = min(count, span + 1)
                names = [order[(first + round(n * span / (steps - 1))) % len(order)] for n in range(steps)]
                parts = [[Token("op", name, op=ImageOperation(name))] for name in names]
                return [*tokens[:at], Token("stop", "."), *tokens[at + 4 :]], parts
    return tokens, []


def _by_alternatives(tokens: list[Token], count: int) -> _Split:
    """ "in spring, summer, autumn and winter": operations that exclude each other, in a list."""
    best: list[int] = []
    for group in dict.fromkeys(_groups(tokens)):
        run: list[int] = []
        for at, token in enumerate(tokens):
            if not token.op or v.ALTERNATIVES.get(token.op.name) != group:
                continue
            between = tokens[run[-1] + 1 : at] if run else []
            if run and (
                not any(one.text in _LIST_BREAKS for one in between)
                or any(one.text in (".", ":") for one in between)
                or len(between) > 8
            ):
                best, run = max(best, run, key=len), []
            run.append(at)
        best = max(best, run, key=len)
    distinct = {(tokens[at].op, tokens[at].text) for at in best}
    if len(best) < 2 or len(distinct) < 2 or (count == 1 and len(best) < 3):
        return tokens, []
    if len(best) == 2 and count > 2 and all((op := tokens[at].op) and op.name == "tint" for at in best):
        return tokens, []  # two colours are one scheme
    parts = []
    for n, at in enumerate(best):
        start = at
        floor = best[n - 1] if n else -1
        while start - 1 > floor and (tokens[start - 1].kind in ("modifier", "op")):
            start -= 1
        stop = at + 1
        ceiling = best[n + 1] if n + 1 < len(best) else len(tokens)
        while (
            stop < ceiling and tokens[stop].kind != "stop" and tokens[stop].text not in (*_LIST_BREAKS, "with", "but")
        ):
            stop += 1
        parts.append((start, stop))
    used = {at for start, stop in parts for at in range(start, stop)}
    common = [
        Token("stop", ",") if at in used or (parts[0][0] < at < parts[-1][1] and token.text in _LIST_BREAKS) else token
        for at, token in enumerate(tokens)
    ]
    return common, [tokens[start:stop] for start, stop in parts]
