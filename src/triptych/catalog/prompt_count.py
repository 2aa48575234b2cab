"""Name the number of images in the prompt, for models that read it from there. Pure."""

from __future__ import annotations

import re

from triptych.core.offers import Offer

_NUMBERS = ("two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
_PICTURES = (
    r"(?:images?|pictures?|pics?|photos?|photographs?|variants?|variations?|versions?|frames?|panels?|shots?|scenes?|"
    r"views?|angles?|posters?|pages?|slides?|illustrations?|drawings?|paintings?|portraits?|renders?|options?|"
    r"outputs?|edits?|stills?|cards?|stickers?|icons?)\b"
)


def name_count(offer: Offer, prompt: str, count: int) -> str:
    """Return the prompt, with the number of images added if the model needs it and the prompt does not name it yet.

    A number of references ("these four photos") does not count. The prompt stays as it is for one image, or where the
    addition would exceed the model's limit.
    """
    if not offer.names_count_in_prompt or count < 2:
        return prompt
    word = f"|{_NUMBERS[count - 2]}" if count < len(_NUMBERS) + 2 else ""
    number = rf"(?<![\w.:/×-])(?:{count}{word})(?![\w:/×%]|\.[0-9])"
    pattern = (
        rf"(?<!\bthe )(?<!\bthese )(?<!\bthose ){number}[\s-]+(?:[\w']+[\s-]+){{0,3}}{_PICTURES}"
        rf"|\b(?:set|series|sequence|group|batch|grid|collection) of (?:exactly )?{number}"
        rf"|(?<!\d){count}\s*[张幅枚]"
    )
    if re.search(pattern, prompt, re.IGNORECASE):
        return prompt
    text = prompt.rstrip()
    with_count = f"{text}{'' if text.endswith(('.', '!', '?', '。', ':')) else '.'} Generate exactly {count} images."
    return with_count if len(with_count) <= offer.max_prompt_chars else prompt
