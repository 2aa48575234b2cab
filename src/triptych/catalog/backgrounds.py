"""Recognise a prompt that asks for a transparent background, and warn that words alone do not set it.

Only `params.background` sets it; the words, in English or Chinese, give a warning that names the parameter. Rules:
pure. A prompt asks for it only if "transparent" (or a plain synonym) describes the background, is not negated, and is
not the background to be replaced.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from triptych.core.offers import Offer
from triptych.core.requests import Request

_GROUND = r"(?:back[\s-]?grounds?|bg|backdrops?)"
_CLEAR = r"(?:transparent|see[\s-]through)"
_NOUN_PHRASE = re.compile(
    rf"\b{_CLEAR}[\s-]+(?:(?:png|clean|clear|empty)[\s-]+)?(?:{_GROUND}|canvas(?!\s+[a-z]))\b"
    r"(?!\s+(?:white|black|opaque|solid|into|was)\b)"
    r"|\btransparent[\s-]+pngs?\b"
    r"|\bpngs?\s+with\s+(?:a\s+)?transparency\b"
    r"|\balpha[\s-]+(?:channel|transparency)\b"
    r"|透明(?:的)?背景|透明底",
    re.IGNORECASE,
)
"""A transparent background as a noun phrase: "on a transparent background"."""
_PREDICATE = re.compile(
    rf"\b(?:{_GROUND}|canvas)(?:\s*[:=]|\s+from\s+\w+)?\s*"
    r"(?:,?\s*\b(?:and\s+)?(?:make|making|leave|leaving)\s+it\b|,?\s*\bso\s+(?:that\s+)?it(?:\s+is|['’]s|\s+becomes)\b)?\s*"
    r"(?:\b(?:should|must|to|be|is|being|becomes?|made|left|as|removed|fully|completely|entirely)\b[\s(]*)*"
    rf"(?:\b{_CLEAR}\b|\b(?:with|for|to)\s+(?:a\s+{_CLEAR}\s+one|transparency)\b)"
    r"|背景(?:为|是|要|变|变成|变为|改成|改为|设为)?透明",
    re.IGNORECASE,
)
"""Transparent as a predicate of the background: "make the background transparent"."""

_ARTICLES = r"(?:(?:a|an|any|the|its|this|that|existing|current|old)\s+)*"
_VERBS = r"(?:use|make|have|want|put|give|add|keep|leave|set|turn|render|replace|remove|change|be|with|on|in|it)"
_NEGATED = (
    rf"\b(?:no|without|non)[\s-]+{_ARTICLES}"
    rf"|\b(?:instead of|rather than|avoid)\s+{_ARTICLES}"
    rf"|(?:\bnot|n['’]t|\bnever)\s+(?:(?:{_VERBS}|a|an|any|the)\s+)*"
    r"|(?:不要|不需要|没有|非|替换)\s*"
)
_REPLACED = (
    r"\b(?:replac\w+|fill\w*|remov\w+|chang\w+|swap\w*|cover\w*|paint\w*\s+over|in\s+place\s+of|from)"
    rf"\s+{_ARTICLES}"
)
_NOT_MEANT = {
    _NOUN_PHRASE: re.compile(rf"(?:{_NEGATED}|{_REPLACED})$", re.IGNORECASE),
    _PREDICATE: re.compile(rf"(?:{_NEGATED})$", re.IGNORECASE),
}
"""Words before a match that turn it into its opposite."""


def asked_for(prompt: str) -> bool:
    """Return whether a prompt asks for a transparent background."""
    text = " ".join(prompt.split())  # the patterns take quadratic time over a run of blanks
    return any(
        not not_meant.search(text[max(0, wish.start() - 60) : wish.start()])
        for pattern, not_meant in _NOT_MEANT.items()
        for wish in pattern.finditer(text)
    )


def note(offer: Offer, request: Request, others: Sequence[Offer], keys: Mapping[str, str]) -> str:
    """Return the warning for a prompt that asks for a transparent background without `params.background`; "" if none.

    `others` are the offers to recommend, the best first; `keys` maps each provider without a key to its variable.
    """
    if "background" in (request.params or {}) or not any(map(asked_for, request.prompts)):
        return ""
    name = f"{offer.family} on {offer.provider}"
    if _takes(offer):
        return (
            f"The prompt asks for a transparent background, but words do not set it: {name} has a parameter for it, "
            'params={"background": "transparent"}.'
        )
    message = f"The prompt asks for a transparent background; {name} has no parameter that makes one"
    able = [other for other in others if _takes(other)]
    if not able:
        return f"{message}, and no other model here has one."
    best = able[0]
    where = ", ".join(dict.fromkeys(other.provider for other in able if other.family == best.family))
    use = f'model="{best.family}", provider="{best.provider}", params={{"background": "transparent"}}'
    key = f" (set {keys[best.provider]} first)" if best.provider in keys else ""
    return f"{message}. {best.family} has one at {where}, one image per request: {use}{key}."


def _takes(offer: Offer) -> bool:
    param = offer.params.get("background")
    return bool(
        param and "transparent" in param.schema.get("enum", ()) and "transparent" not in param.one_reference
    )  # one that needs a reference keeps its transparency and makes none
