"""An instruction in words → a plan: for each panel, the named operations and their strength.

Rules: pure, deterministic, and total: any text gives a plan with exactly `count` panels, and nothing raises. What was
not understood is kept, in the words of the prompt. A list in the prompt ("spring, summer …", "panel 1: …", "first …
then …") gives each panel its own operations; the words outside the list are for all panels.

Must not know: pixels. The words themselves are data, in `vocabulary`.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

from triptych.providers.preview import vocabulary as v
from triptych.providers.preview.tokens import ImageOperation, Token, text_of, tokenize
from triptych.providers.preview.variants import split

PROMPT_LIMIT_CHARS = 4000
REPORTED_PHRASES = 4
REPORTED_CHARS = 48


@dataclass(frozen=True, slots=True)
class EditPlan:
    """The operations, panel by panel.

    `texts` holds the words that concern each panel; with `each`, panel n is made from image n; `listed` is the
    number of variants in the prompt itself (0: none).
    """

    panels: tuple[tuple[ImageOperation, ...], ...]
    texts: tuple[str, ...]
    not_understood: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    each: bool = False
    listed: int = 0


_PREPOSITIONS = frozenset(
    ("at", "in", "during", "under", "for", "on", "but", "while", "as", "with", "make", "add", "into", "by", "to")
)
_EACH = re.compile(
    r"\b(?:each|every)\b(?! (?:season|panel|variant|version|variation|time|day|frame|step))"
    r"|\ball (?:of )?(?:the |these |those |my |our )?(?:them|these|images|photos|pictures|references|shots)\b"
)


def parse_prompt(prompt: str, count: int, *, known: Collection[str] = ()) -> EditPlan:
    """Return the plan of a prompt for `count` panels (at least one); `known` words are never reported.

    Panels with the same operations get a `variation` of rising strength, so that no two are the same.
    """
    count = max(1, count)
    read_tokens = tokenize(prompt[:PROMPT_LIMIT_CHARS])
    common, parts = split(read_tokens, count)
    shared, lost = _interpret(common, known)
    warnings: list[str] = []
    panels: list[list[ImageOperation]] = []
    texts: list[str] = []
    if parts:
        listed = "1 variant" if len(parts) == 1 else f"{len(parts)} variants"
        if len(parts) < count:
            warnings.append(f"The prompt lists {listed} for {count} panels; the list starts over, slightly varied.")
        elif len(parts) > count:
            warnings.append(f"The prompt lists {listed} for {count} panel{'s' * (count > 1)}; the rest was left out.")
        read = [_interpret(part, known) for part in parts]
        for _, unknown in read[:count]:
            lost += [phrase for phrase in unknown if phrase not in lost]
        panels = [[*read[n % len(read)][0], *shared] for n in range(count)]
        texts = [text_of([*common, *parts[n % len(parts)]]) for n in range(count)]
    else:
        panels = [list(shared) for _ in range(count)]
        texts = [text_of(common)] * count
    return EditPlan(
        panels=_told_apart([_settled(ops) for ops in panels]),
        texts=tuple(texts),
        not_understood=tuple(lost[:REPORTED_PHRASES]),
        warnings=tuple(warnings),
        each=bool(_EACH.search(prompt[:PROMPT_LIMIT_CHARS].lower())),
        listed=len(parts),
    )


def _settled(ops: Sequence[ImageOperation]) -> list[ImageOperation]:
    """Return the operations, each once, in the order of their application: geometry, looks, overlays, words."""
    kept: dict[str, ImageOperation] = {}
    for op in ops:
        kept.setdefault(op.name, op)
    late = {"frame": 2, "caption": 3, "caption_top": 3}
    early = {"rotate": -2, "flip": -2, "crop": -2, "zoom": -1, "levels": -1}
    return sorted(kept.values(), key=lambda op: late.get(op.name, early.get(op.name, 0)))


def _told_apart(panels: Sequence[list[ImageOperation]]) -> tuple[tuple[ImageOperation, ...], ...]:
    """Give every panel that equals an earlier one, or has no operation, a variation of its own."""
    seen: dict[tuple[ImageOperation, ...], int] = {}
    out = []
    for ops in panels:
        key = tuple(ops)
        nth = seen.get(key, 0)
        seen[key] = nth + 1
        step = nth + (0 if key else 1)
        out.append((ImageOperation("variation", float(step)), *key) if step else key)
    return tuple(out)


def _interpret(tokens: Sequence[Token], known: Collection[str]) -> tuple[list[ImageOperation], list[str]]:
    """Return the operations of the tokens, and the phrases without any known word."""
    reader = _Reader(known)
    for at, token in enumerate(tokens):
        reader.read(token, tokens[at + 1 : at + 6], tokens[max(0, at - 8) : at])
    reader.end_clause()
    return reader.ops, reader.lost


class _Reader:
    """Reads a clause at a time: a negation, a keeper or a modifier holds until the end of the clause."""

    def __init__(self, known: Collection[str]) -> None:
        self.known = known
        self.ops: list[ImageOperation] = []
        self.lost: list[str] = []
        self._reset()

    def _reset(self) -> None:
        self.strength = 1.0
        self.lessened = self.negated = self.kept = self.kept_words = self.changing = False
        self.words: list[str] = []

    def end_clause(self) -> None:
        self._report()
        self._reset()

    def read(self, token: Token, ahead: Sequence[Token], behind: Sequence[Token]) -> None:
        if token.kind in ("stop", "marker", "spread"):
            self.end_clause()
        elif token.kind == "modifier":
            self._modify(token.value, ahead, behind)
        elif token.kind == "quote":
            self._quote(token.text, [*behind, *ahead[:4]])
        elif token.op:
            self._operate(token.op)
        else:
            self._word(token.text, ahead, behind)

    def _modify(self, value: float, ahead: Sequence[Token], behind: Sequence[Token]) -> None:
        if not _op_in_clause(ahead) and _op_in_clause(behind[-2:]) and self.ops:
            self.ops[-1] = replace(self.ops[-1], strength=_bounded(self.ops[-1].strength * value))
        else:
            self.strength *= value

    def _quote(self, text: str, around: Sequence[Token]) -> None:
        if self.negated or self.kept:
            return
        if any(token.text in ("style", "called", "named") for token in around):
            self.lost.append(_shortened(text))
            return
        self._report()
        top = any(token.text in ("top", "above", "upper") for token in around)
        self.ops.append(ImageOperation("caption_top" if top else "caption", 1.0, text.strip()))

    def _operate(self, op: ImageOperation) -> None:
        self._report()
        if not self.negated and not self.kept:
            strength = _bounded(op.strength * self.strength)
            if self.lessened and op.name in v.OPPOSITES:
                op = replace(op, name=v.OPPOSITES[op.name])
            elif self.lessened:
                strength *= 0.5
            self.ops.append(replace(op, strength=strength))
        self.strength, self.lessened = 1.0, False

    def _word(self, word: str, ahead: Sequence[Token], behind: Sequence[Token]) -> None:
        if word in ("and", "but", "while", "then", "plus"):
            negated = self.negated and word == "and" and bool(ahead) and ahead[0].op is not None
            self.end_clause()
            self.negated = negated
        elif word in v.NEGATIONS:
            self._report()
            self.negated = True
        elif word in v.LESSENERS:
            if not _op_in_clause(ahead) and _op_in_clause(behind[-1:]) and self.ops:
                last = self.ops[-1]
                self.ops[-1] = replace(last, name=v.OPPOSITES.get(last.name, last.name))
            else:
                self.lessened = True
        elif word in v.KEEPERS:
            self._report()
            self.kept_words = True
            self.kept = word.startswith(("keep", "preserv", "maintain", "retain")) and not (
                bool(ahead) and ahead[0].text in ("it", "them", "everything")
            )
        elif word in self.known:
            self._report()
        else:
            if word in _PREPOSITIONS:
                self.kept = False
            if word in v.CHANGERS and not self.words:
                self.changing, self.kept_words = True, False
            self.words.append(word)

    def _report(self) -> None:
        """Note the words since the last thing understood, if any of them means something."""
        words, self.words = self.words, []
        telling = [n for n, word in enumerate(words) if _is_content(word)]
        if telling and not self.negated and not self.kept_words:
            first = 0 if self.changing and words[0] in v.CHANGERS else telling[0]
            phrase = _shortened(" ".join(words[first : telling[-1] + 1]))
            if phrase not in self.lost:
                self.lost.append(phrase)
        self.changing = False


def _op_in_clause(tokens: Sequence[Token]) -> bool:
    for token in tokens:
        if token.op:
            return True
        if token.kind == "stop" or token.text in ("and", "but"):
            return False
    return False


def _is_content(word: str) -> bool:
    return word not in v.STOP_WORDS and not word[0].isdigit() and len(word) > 1


def _bounded(strength: float) -> float:
    return max(0.2, min(2.0, strength))


def _shortened(text: str) -> str:
    return text if len(text) <= REPORTED_CHARS else text[: REPORTED_CHARS - 1].rstrip() + "…"
