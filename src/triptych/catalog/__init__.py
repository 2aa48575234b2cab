"""Everything that is decided before a request exists: which model, within which limits, at which size, at which price.

Rules: pure. The caller hands in the offers in order of preference; nothing here knows a provider by name.

    choosing      which offer a model name, an endpoint id or nothing means
    limits        prompt, count, references and format against an offer
    params        the model's own parameters against an offer
    sizes         "2K", "16:9" or "2048x2048" as pixels
    pricing       the list price of one request
    prompt_count  the number of images, named in the prompt
    backgrounds   whether a prompt asks for a transparent background
    presets       size tables
    live_offers   the offers of a model from a provider's live catalogue; with its rules (live_rules), the reading of
                  its schema (live_schema) and its sizes (live_sizes)
"""

from __future__ import annotations

from triptych.catalog.choosing import by_preference, choose, for_any, is_retired, search
from triptych.catalog.limits import check_limits, fit_look
from triptych.catalog.params import check_params, image_params
from triptych.catalog.pricing import most_images, quote
from triptych.catalog.prompt_count import name_count
from triptych.catalog.sizes import MAX_SIZES_LISTED, resolve_size, sizes_text

__all__ = [
    "MAX_SIZES_LISTED",
    "backgrounds",
    "by_preference",
    "check_limits",
    "check_params",
    "choose",
    "fit_look",
    "for_any",
    "image_params",
    "is_retired",
    "live_offers",
    "most_images",
    "name_count",
    "params",
    "presets",
    "quote",
    "resolve_size",
    "search",
    "sizes_text",
]
