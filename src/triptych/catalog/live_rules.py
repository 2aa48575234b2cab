"""The rules by which a live model's schema becomes an offer. Data only; `live_offers` applies them.

The names are those that provider documentation, official clients and third-party clients showed between 2026-03 and
2026-11. Of several names, the first that a schema has counts.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

# Which models make images ---------------------------------------------------------------------------------------------

IMAGE_KINDS = frozenset({
    "", "text-to-image", "image-to-image", "upscaler", "image-upscaler", "ai-remover", "image-tools", "image-editing",
    "image-edit", "image-generation", "image",
})  # fmt: skip
"""The providers' categories of models that return images, in lower case; "" where a provider names none."""
EDIT_KINDS = frozenset({
    "image-to-image", "image-editing", "image-edit", "upscaler", "image-upscaler", "ai-remover", "image-tools",
})  # fmt: skip
"""The categories of models that always need an image, whatever their schema requires."""
TOOL_KINDS = frozenset({"upscaler", "image-upscaler", "ai-remover", "image-tools"})
"""The categories of models for one image; some of them take or return a video."""
EDIT_WORDS = frozenset({"edit", "inpaint", "inpainting", "outpaint", "upscaler", "eraser", "i2i"})
"""Words in the id of a model that always needs an image."""
NO_IMAGE_WORDS: Mapping[str, str] = {
    word: reason
    for reason, words in {
        "it makes videos": "video videos t2v i2v v2v s2v animate lipsync",
        "it makes sound": "audio speech tts music",
        "it makes text": "llm vlm chat embedding captioner caption ocr describe transcribe moderator text2text",
        "it trains a model": "training trainer train",
        "it makes 3D models": "3d image23d text23d mesh",
        "it takes a picture apart into layers": "layer layers layerize layered decomposition",
    }.items()
    for word in words.split()
}
"""Words in the id of a model that is not offered, with the reason."""
VIDEO_FIELDS = frozenset({"duration", "fps", "num_frames", "frame_rate", "video_length"})
"""Properties that only models of videos have."""

# Triptych's inputs ----------------------------------------------------------------------------------------------------

PROMPT = ("prompt", "text_prompt", "positive_prompt", "instruction")
IMAGE = (
    "images", "image", "image_urls", "image_url", "input_images", "input_image", "reference_images", "reference_image",
    "source_image",
)  # fmt: skip
MASK = ("mask", "mask_image", "mask_url", "mask_image_url")
COUNT = ("num_images", "n", "num_outputs", "number_of_images", "image_count", "count")
OTHER_COUNTS = (
    "max_images", "num_samples", "samples", "batch_size", "batch_count", "num_images_per_prompt", "number_results",
    "num_results", "number_of_results", "number_of_outputs", "n_images", "num_variations", "variations",
    "images_count", "output_count", "outputs_count",
)  # fmt: skip
"""Properties that multiply the images of a request, and its cost: never a parameter, always sent as 1."""
SET_COUNT = "max_images"
"""The most images of a set; the prompt has to name their number."""
SET_WORD = "sequential"
"""The word in the id of a model that makes sets."""
SIZE = ("size", "image_size", "resolution")
"""Names of a size in pixels; some hold a ratio or a tier instead."""
RATIO = ("aspect_ratio", "ratio")
TIER = ("resolution", "target_resolution")
FORMAT = ("output_format", "image_format", "format")

UNBOUNDED_IMAGES = 10
"""The most references where a list of images names no bound."""
LARGEST_COUNT = 15
LARGEST_REFERENCES = 50

# Media fields ---------------------------------------------------------------------------------------------------------

MEDIA_COMPONENTS = frozenset({"uploader", "uploaders", "upload", "upload-array", "mask"})
"""Values of `x-ui-component` that mark a field for files."""
MASK_COMPONENT = "mask"
ACCEPTED = re.compile(r"image/[a-z0-9.+*-]{1,20}|\.?(png|jpe?g|webp|bmp|gif|tiff?|heic|heif|avif)", re.I)
"""A kind of file that is an image, in `x-accept`."""
IMAGE_WORDS = frozenset({"image", "images", "img", "photo", "picture", "mask", "reference", "references"})
FILE_WORDS = IMAGE_WORDS | {"video", "videos", "audio", "zip", "file", "files", "url", "urls", "lora", "media", "frame"}
"""Words in the name of a text property that holds a file, where the schema gives no hint."""
OTHER_FILE_WORDS = frozenset({"video", "audio", "zip", "file", "files", "data", "lora", "voice", "model", "document"})
"""Words in the name of a file field that may be no image, whatever the model's category."""

# Sizes ----------------------------------------------------------------------------------------------------------------

TIERS_PX: Mapping[str, int] = {
    "0.5K": 512**2,
    "1K": 1024**2,
    "1.5K": 1536**2,
    "2K": 2048**2,
    "3K": 3840 * 2160,
    "4K": 4096**2,
    "6K": 6144**2,
    "8K": 8192**2,
}
"""The nominal area of a tier in pixels; the providers spell them in either case."""
RATIOS = ("1:1", "4:3", "3:4", "3:2", "2:3", "16:9", "9:16", "21:9", "9:21", "4:5", "5:4")
"""The ratios of the sizes that are made up for a model that takes any pixels."""
LEFT_TO_MODEL = ("auto", "match_input_image", "adaptive", "original")
"""Words for a size that the model chooses."""
SEPARATORS: Mapping[tuple[str, str], str] = {("atlas", "openai/"): "x"}
"""The separator of width and height by provider and beginning of the id, where no enum or default shows it."""
SEPARATOR = "*"

FORMATS: Mapping[str, str] = {"png": "png", "jpeg": "jpeg", "jpg": "jpeg", "webp": "webp"}
"""Triptych's word for each spelling of a format, in lower case; other formats are not offered."""

# Parameters -----------------------------------------------------------------------------------------------------------

NEVER_PARAMS = frozenset({
    "model", "model_id", "enable_sync_mode", "sync_mode", "sync", "enable_base64_output", "base64_output", "stream",
    "response_format", "output_type", "user", "user_id", "api_key", "token", "metadata", "id", "request_id",
})  # fmt: skip
"""Properties of the transport, of an account or of Triptych's own."""
NEVER_WORDS = frozenset({"webhook", "webhooks", "callback", "secret", "password"})
"""Words in the names of properties that no request sets."""


@dataclass(frozen=True, slots=True)
class Shared:
    """A parameter that Triptych names, as a schema may have it: under one of `names`, of one of the types `kinds`.

    With `values` it takes these words alone, each sent as the value beside it. `words`: its enum must have one of
    these, and only these of its values are offered.
    """

    name: str
    names: tuple[str, ...]
    kinds: tuple[str, ...]
    values: Mapping[str, Any] = field(default_factory=dict)
    words: tuple[str, ...] = ()


SHARED: tuple[Shared, ...] = (
    Shared("background", ("background",), ("string",), words=("auto", "transparent", "opaque")),
    Shared(
        "background",
        ("transparent_background", "transparent"),
        ("boolean",),
        values={"opaque": False, "transparent": True},
    ),
    Shared("seed", ("seed",), ("integer",)),
    Shared("negative_prompt", ("negative_prompt",), ("string",)),
    Shared("quality", ("quality",), ("string",)),
    Shared("web_search", ("web_search", "enable_web_search"), ("boolean",)),
    Shared("watermark", ("watermark", "add_watermark", "enable_watermark"), ("boolean",)),
    Shared("prompt_optimization", ("prompt_optimization_mode",), ("string",), words=("off", "fast", "standard")),
    Shared(
        "prompt_optimization",
        ("prompt_extend", "enable_prompt_expansion", "enable_prompt_optimizer", "prompt_upsampling"),
        ("boolean",),
        values={"off": False, "standard": True},
    ),
)  # fmt: skip
"""In order of preference: a name of Triptych's is given once."""

# Exceptions -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Exempt:
    """Properties of models that a schema lists although they do nothing there, with the reason.

    It holds for ids that begin with `prefix`, at one provider, or at each with "".
    """

    provider: str
    prefix: str
    properties: tuple[str, ...]
    reason: str


EXCEPTIONS: tuple[Exempt, ...] = (
    Exempt("", "bytedance/seedream-v", ("seed",), "its makers dropped it after Seedream 3.0, so it would do nothing"),
    Exempt("atlas", "bytedance/seedream-v", ("width", "height"), "the provider ignores it: use size"),
    Exempt("", "openai/gpt-image-2/", MASK, "only GPT Image 2.5 takes a mask"),
)

# Bounds of a schema ---------------------------------------------------------------------------------------------------

MAX_PROPERTIES = 200
MAX_DEPTH = 8
MAX_PARAMS = 40
MAX_ENUM = 60
MAX_ENUM_CHARS = 100
MAX_ENUM_READ = 1_000
"""A longer enum makes its property unreadable."""
MAX_DESCRIPTION_CHARS = 200
MAX_TITLE_CHARS = 240
MAX_PROMPT_CHARS = 100_000
MAX_SCHEMA_CHARS = 8_000
"""The longest schema of one parameter, as JSON."""
MAX_SCHEMAS_CHARS = 60_000
"""The longest schemas of all parameters of a model together."""
NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,39}")
ENDPOINT = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:@-]*(/[A-Za-z0-9][A-Za-z0-9._:@-]*)*")
PATH = re.compile(r"(/[A-Za-z0-9][A-Za-z0-9._:@-]*)+")
