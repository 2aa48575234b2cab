"""Whether a prompt asks for a transparent background, and what is said about it.

Seedream 5.5 has a setting for it. The tools have no argument for it, so the words of the prompt decide, in English or
Chinese. Rules: pure; a prompt asks only where "transparent" (or a plain synonym) is said of the background, and not
where the words are negated or name what is to be replaced.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from triptych.core.models import Offer

_GROUND = r"(?:back[\s-]?grounds?|bg|backdrops?)"
_CLEAR = r"(?:transparent|see[\s-]through)"
_NAMED = re.compile(
    rf"\b{_CLEAR}[\s-]+(?:(?:png|clean|clear|empty)[\s-]+)?(?:{_GROUND}|canvas(?!\s+[a-z]))\b"
    r"(?!\s+(?:white|black|opaque|solid|into|was)\b)"
    r"|\btransparent[\s-]+pngs?\b"
    r"|\bpngs?\s+with\s+(?:a\s+)?transparency\b"
    r"|\balpha[\s-]+(?:channel|transparency)\b"
    r"|透明(?:的)?背景|透明底",
    re.IGNORECASE,
)
"""A transparent background as a thing: "on a transparent background"."""
_SAID = re.compile(
    rf"\b(?:{_GROUND}|canvas)(?:\s*[:=]|\s+from\s+\w+)?\s*"
    r"(?:,?\s*\b(?:and\s+)?(?:make|making|leave|leaving)\s+it\b|,?\s*\bso\s+(?:that\s+)?it(?:\s+is|['’]s|\s+becomes)\b)?\s*"
    r"(?:\b(?:should|must|to|be|is|being|becomes?|made|left|as|removed|fully|completely|entirely)\b[\s(]*)*"
    rf"(?:\b{_CLEAR}\b|\b(?:with|for|to)\s+(?:a\s+{_CLEAR}\s+one|transparency)\b)"
    r"|背景(?:为|是|要|变|变成|变为|改成|改为|设为)?透明",
    re.IGNORECASE,
)
"""Transparent said of the background: "make the background transparent"."""

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
    _NAMED: re.compile(rf"(?:{_NEGATED}|{_REPLACED})$", re.IGNORECASE),
    _SAID: re.compile(rf"(?:{_NEGATED})$", re.IGNORECASE),
}
"""What stands before words that are no wish."""


def asked_for(prompt: str) -> bool:
    """Return whether the words of a prompt ask for a transparent background."""
    text = " ".join(prompt.split())  # the patterns take quadratic time over a run of blanks
    return any(
        not not_meant.search(text[max(0, wish.start() - 60) : wish.start()])
        for pattern, not_meant in _NOT_MEANT.items()
        for wish in pattern.finditer(text)
    )


def is_sent(offer: Offer, prompt: str) -> bool:
    """Return whether a request asks for a transparent background by the model's own setting."""
    return bool(offer.transparency) and asked_for(prompt)


def note(offer: Offer, prompts: Sequence[str], others: Sequence[Offer], keys: Mapping[str, str]) -> str:
    """Return what a result says about the background: what is sent, or which model has a setting; "" for no wish.

    `others` are the offers to name, the best first; `keys` names the variable of each provider that has no key yet.
    """
    asking = [n for n, prompt in enumerate(prompts, 1) if asked_for(prompt)]
    if not asking:
        return ""
    if offer.transparency:
        sure = (
            ""
            if offer.transparency == "documented"
            else " (its name there is inferred, not documented): check the result"
        )
        some = f" in step {', '.join(map(str, asking))} of {len(prompts)}" if len(asking) < len(prompts) else ""
        rest = " The other steps leave the background to the model; ask in each step to be sure." if some else ""
        return (
            f"The prompt asks for a transparent background{some}: {offer.family} on {offer.provider} receives it as a "
            f"setting{sure}.{rest}"
        )
    said = (
        f"The prompt asks for a transparent background; {offer.family} on {offer.provider} has no known setting for it"
    )
    able = [other for other in others if other.transparency == "documented"]
    if not able:
        return f"{said}, and no other model here has one."
    best = able[0]
    where = ", ".join(dict.fromkeys(other.provider for other in able if other.family == best.family))
    use = f'model="{best.family}", provider="{best.provider}"'
    key = f" (set {keys[best.provider]} first)" if best.provider in keys else ""
    return f"{said}. {best.family} has one at {where}, one image per request: {use}{key}."
