"""Whether a prompt asks for a transparent background, and what is said about it.

Seedream 5.5 has a setting for it. The tools have no argument for it, so the words of the prompt decide.
Rules: pure; a wish is found only where the words "transparent" and "background" (or a plain synonym) stand together,
and not where they are negated or name what is to be replaced.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from triptych.model import Offer

_GROUND = r"(?:back[\s-]?grounds?|bg|backdrops?|canvas)"
_WISH = re.compile(
    rf"\b(?:transparent|see[\s-]through)[\s-]+(?:png[\s-]+)?{_GROUND}\b"
    rf"|\b{_GROUND}\s*(?:[:=]|(?:should|must|to|be|is|being|made|make|as|fully|completely|entirely)\s+)?"
    r"(?:\s*(?:be|fully|completely|entirely)\s+)*\s*(?:transparent|see[\s-]through)\b"
    r"|\btransparent[\s-]+pngs?\b"
    r"|\balpha[\s-]+(?:channel|transparency)\b"
    r"|透明(?:的)?背景|背景(?:为|是|要)?透明|透明底",
    re.IGNORECASE,
)
_ARTICLES = r"(?:(?:a|an|any|the|its|this|that|existing|current|old)\s+)*"
_NOT_MEANT = re.compile(
    r"(?:\b(?:no|without|non)[\s-]+"
    rf"|\b(?:replac\w+|fill\w*|remov\w+|chang\w+|swap\w*|from|instead of|rather than|avoid)\s+{_ARTICLES}"
    r"|(?:\bnot|n['’]t|\bnever)\s+(?:(?:use|make|have|want|put|give|add|keep|leave|be|with|on|in|it|a|an|any|the)\s+)*"
    rf"|\b(?:no|without)\s+{_ARTICLES}"
    r"|(?:不要|不需要|没有|非|替换)\s*)$",
    re.IGNORECASE,
)


def asked_for(prompt: str) -> bool:
    """Return whether the words of a prompt ask for a transparent background."""
    return any(
        not _NOT_MEANT.search(prompt[max(0, wish.start() - 60) : wish.start()]) for wish in _WISH.finditer(prompt)
    )


def is_sent(offer: Offer, prompt: str) -> bool:
    """Return whether a request asks for a transparent background by the model's own setting."""
    return bool(offer.transparency) and asked_for(prompt)


def note(offer: Offer, prompts: Sequence[str], others: Sequence[Offer]) -> str:
    """Return what a result says about the background: that the setting is sent, or which model has one; "" for no wish.

    `others` are the offers to name, the best first.
    """
    if not any(asked_for(prompt) for prompt in prompts):
        return ""
    if offer.transparency == "documented":
        return f"The prompt asks for a transparent background: {offer.family} is asked for one by its own setting."
    if offer.transparency:
        return (
            f"The prompt asks for a transparent background: {offer.family} on {offer.provider} is asked for one by a "
            "setting whose name is inferred, not documented. Check the result."
        )
    able = [other for other in others if other.transparency == "documented"]
    said = (
        f"The prompt asks for a transparent background; {offer.family} on {offer.provider} has no known setting for it"
    )
    if not able:
        return f"{said}, and no other model here has."
    where = ", ".join(dict.fromkeys(other.provider for other in able))
    use = f'model="{able[0].family}", provider="{able[0].provider}"'
    return f"{said}. {able[0].family} has one at {where}, one image per request: {use}."
