"""Check a request against an offer's limits: prompt, count, references, format.

Rules: pure. A refusal says what was wrong and what would be right.
"""

from __future__ import annotations

from dataclasses import replace

from triptych.core.errors import OutOfLimits, quoted
from triptych.core.offers import Offer
from triptych.core.requests import Request


def check_limits(offer: Offer, request: Request) -> None:
    """Check a request against an offer. Raises: `OutOfLimits`, saying what would be right."""
    name = f"{offer.family} on {offer.provider}"
    references, count, format = request.most_inputs, request.count, request.format
    for prompt in request.prompts_sent:
        if not prompt.strip():
            raise OutOfLimits("The prompt is empty: say what the images should show.")
        if len(prompt) < offer.min_prompt_chars:
            raise OutOfLimits(
                f"The prompt{_lane_of(request, prompt)} has {len(prompt)} characters; {name} takes at least "
                f"{offer.min_prompt_chars}."
            )
        if len(prompt) > offer.max_prompt_chars:
            raise OutOfLimits(
                f"The prompt{_lane_of(request, prompt)} has {len(prompt)} characters; {name} takes at most "
                f"{offer.max_prompt_chars}."
            )
    if not 1 <= count <= offer.max_outputs:
        most = f"1 to {offer.max_outputs} images per request" if offer.max_outputs > 1 else "1 image per request"
        raise OutOfLimits(f"{name} ({offer.endpoint}) makes {most}, not {count}.")
    if offer.operation.edits:
        if not 1 <= references <= offer.max_references:
            most = f"1 to {offer.max_references} references" if offer.max_references > 1 else "1 reference"
            raise OutOfLimits(f"{name} edits {most}, not {references}.")
        limit = offer.max_references_and_outputs
        if references + count > limit:
            fewer = [f"{limit - count} reference{_s(limit - count)}"] if limit > count else []
            fewer += [f"{limit - references} image{_s(limit - references)}"] if limit > references else []
            raise OutOfLimits(
                f"{references} reference{_s(references)} and {count} image{_s(count)} make {references + count}; "
                f"{name} takes {limit} together: use at most {' or '.join(fewer) or 'fewer of both'}."
            )
    elif references:
        raise OutOfLimits(f"{offer.endpoint} makes images from a prompt alone: to use {references} references, edit.")
    if format is not None and format not in offer.formats:
        right = f"takes the formats {', '.join(offer.formats)}" if offer.formats else "chooses the format itself"
        raise OutOfLimits(f"{name} {right}, not {quoted(format, 40)}.")


def _lane_of(request: Request, prompt: str) -> str:
    """Return the lane of a prompt with the values of a row, in words."""
    if request.rows is None:
        return ""
    lanes = (lane for lane, step in request.places() if request.with_look(request.prompt_at(lane, step)) == prompt)
    return f" of lane {next(lanes) + 1}"


def fit_look(offer: Offer, request: Request) -> tuple[Request, tuple[str, ...]]:
    """Return the request with as many images of its look as the offer takes, and a warning that names the others."""
    if not request.look:
        return request, ()
    images = request.look.images
    others = replace(request, look=replace(request.look, images=())).most_inputs
    limit = min(offer.max_references, offer.max_references_and_outputs - request.count)
    kept = images[: max(limit - others, 0)]
    if kept == images:
        return request, ()
    left_out = images[len(kept) :]
    shown = ", ".join(left_out[:6]) + (" …" if len(left_out) > 6 else "")
    note = (
        f"{len(left_out)} of the {len(images)} images of look:{request.look.name} are left out ({shown}): "
        f"{offer.family} on {offer.provider} takes {limit} in a request, and the call has {others} itself."
    )
    return replace(request, look=replace(request.look, images=kept)), (note,)


def _s(number: int) -> str:
    return "" if number == 1 else "s"
