"""A prompt → tokens: words, known phrases, quotes, numbered marks, ratios, turns.

Rules: total (any text gives tokens) and quick for a few thousand characters. A token keeps its words.

Must not know: panels, lists, the effect of an operation.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from triptych.providers.preview import vocabulary as v


@dataclass(frozen=True, slots=True)
class ImageOperation:
    """One named operation; `strength` is 1 for the plain word, 0.5 for "slightly", 1.5 for "very"."""

    name: str
    strength: float = 1.0
    argument: str = ""


@dataclass(frozen=True, slots=True)
class Token:
    kind: str  # word, stop (punctuation), op, spread, modifier, quote, marker
    text: str
    op: ImageOperation | None = None
    value: float = 0.0
    members: tuple[str, ...] = ()


_PIECES = re.compile(
    r"""
      "(?P<quote>[^"\n]{1,200})" | “(?P<quote2>[^”\n]{1,200})” | «(?P<quote3>[^»\n]{1,200})»
    | (?<!\w)['‘](?P<quote4>[^'’\n]{1,200})['’](?!\w)
    | (?:panels?|images?|frames?|pictures?|photos?|shots?|variants?|versions?|variations?|scenes?|steps?|slides?|pages?)
      [ ]?\#?(?P<marker>[0-9]{1,2})[ ]?(?:[:)=–—]|\.(?![0-9])|-[ ])
    | (?<![\w.:])[(\#]?(?P<marker2>[0-9]{1,2})[.):](?=\s)
    | rotat\w*[ ](?:(?:it|them|the[ ]\w{1,20})[ ])?(?:by[ ])?(?P<angle>[0-9]{1,3})[ ]?(?:°|degrees?|deg)?
      (?:[ ](?:to[ ]the[ ])?(?P<turn>clockwise|cw|right|anti-?clockwise|counter-?[ ]?clockwise|ccw|left))?(?!\w)
    | rotat\w*[ ](?:(?:it|them|the[ ]\w{1,20})[ ])?(?:to[ ]the[ ])?
      (?P<turn2>clockwise|cw|right|anti-?clockwise|counter-?[ ]?clockwise|ccw|left)(?!\w)
    | (?<![\w.])(?P<wide>[0-9]{1,2})[ ]?[:x×][ ]?(?P<high>[0-9]{1,2})(?![\w.]*[0-9])
    | (?P<percent>[0-9]{1,3})[ ]?%
    | (?P<word>\w+(?:['’&-]\w+)*) | (?P<and>[&+]) | (?P<arrow>->|=>|→) | (?P<stop>[,;:.!?/|()\n•–—-])
    """,
    re.VERBOSE | re.IGNORECASE,
)


def tokenize(prompt: str) -> list[Token]:
    """Return the prompt as tokens, the longest known phrases joined."""
    raw: list[Token] = []
    for match in _PIECES.finditer(prompt):
        groups = {name: text for name, text in match.groupdict().items() if text is not None}
        kind = match.lastgroup or ""
        if quote := next((groups[name] for name in ("quote", "quote2", "quote3", "quote4") if name in groups), ""):
            raw.append(Token("quote", quote))
        elif number := groups.get("marker") or groups.get("marker2"):
            raw.append(Token("marker", match.group(), value=int(number)))
        elif "angle" in groups or "turn2" in groups:
            raw.append(Token("op", match.group().lower(), op=_rotation(groups)))
        elif "wide" in groups:
            wide, high = int(groups["wide"]), int(groups["high"])
            crop = (
                ImageOperation("crop", 1.0, f"{wide}:{high}") if wide and high and 1 / 5 <= wide / high <= 5 else None
            )
            raw.append(Token("op", match.group(), op=crop) if crop else Token("word", match.group()))
        elif "percent" in groups:
            raw.append(Token("modifier", match.group(), value=max(0.2, min(2.0, int(groups["percent"]) / 40))))
        elif kind in ("and", "arrow", "stop"):
            raw.append(
                Token("word", "and") if kind == "and" else Token("stop", "→" if kind == "arrow" else match.group())
            )
        else:
            raw.append(Token("word", groups["word"].lower().replace("’", "'").replace("_", " ")))
    return _phrased(raw)


def _rotation(groups: dict[str, str]) -> ImageOperation:
    turn = (groups.get("turn") or groups.get("turn2") or "right").lower()
    angle = int(groups.get("angle", "90")) % 360
    left = turn in ("left", "ccw") or turn.startswith(("anti", "counter"))
    return ImageOperation("rotate", 1.0, str((360 - angle if left else angle) % 360))


def _phrased(raw: Sequence[Token]) -> list[Token]:
    """Join words into the longest phrases the vocabulary has."""
    out: list[Token] = []
    at = 0
    while at < len(raw):
        token, used = raw[at], 1
        words: list[str] = []
        for one in raw[at : at + v.LONGEST_PHRASE]:
            if one.kind != "word":
                break
            words.append(one.text)
        for length in range(len(words), 0, -1):
            phrase = tuple(words[:length])
            joined = " ".join(phrase)
            if phrase in v.PHRASES:
                name, strength, argument = v.PHRASES[phrase]
                token, used = Token("op", joined, op=ImageOperation(name, strength, argument)), length
            elif joined in v.SPREADS:
                token, used = Token("spread", joined, members=v.SPREADS[joined]), length
            elif joined in v.MODIFIERS:
                token, used = Token("modifier", joined, value=v.MODIFIERS[joined]), length
            else:
                continue
            break
        out.append(token)
        at += used
    return _coloured(out)


def _coloured(tokens: list[Token]) -> list[Token]:
    """Turn a colour's name into a tint, unless it only describes a thing ("a red hat")."""
    for at, token in enumerate(tokens):
        if token.kind == "word" and token.text in v.COLOURS:
            after = tokens[at + 1] if at + 1 < len(tokens) else Token("stop", "")
            if after.kind != "word" or after.text in v.STOP_WORDS:
                tokens[at] = Token("op", token.text, op=ImageOperation("tint", 1.0, token.text))
    return tokens


def text_of(tokens: Sequence[Token]) -> str:
    """Return the words of the tokens, without punctuation and marks."""
    return " ".join(token.text for token in tokens if token.kind not in ("stop", "marker"))
