"""The words of the preview engine, as data: phrase → operation, and the words that it passes over.

Rules: tables only, no decisions. A phrase is lower case, its words separated by single spaces; the longest match wins.
An operation is written `name` or `name=argument`.

Must not know: pixels, and the parsing of a sentence.
"""

from __future__ import annotations

SEASONS = ("spring", "summer", "autumn", "winter")
TIMES = ("dawn", "morning", "noon", "golden", "sunset", "dusk", "night")
"""In the order of the day, so that "from dawn to night" can be spread over any number of panels."""
LOOKS = (
    "mono",
    "sepia",
    "sketch",
    "watercolour",
    "oil",
    "poster",
    "pixelate",
    "invert",
    "vintage",
    "tint",
    "teal_orange",
)
WEATHER = ("rain", "snow", "fog", "sunny")
ALTERNATIVES: dict[str, str] = {
    **dict.fromkeys(SEASONS, "season"),
    **dict.fromkeys(TIMES, "time"),
    **dict.fromkeys(LOOKS, "look"),
    **dict.fromkeys(WEATHER, "weather"),
}
"""Operations that exclude each other: a list of them means one per panel."""

_OPERATIONS: dict[str, str] = {
    # seasons and times of day
    "spring": "spring, springtime, vernal, cherry blossom season",
    "summer": "summer, summertime, summery, midsummer",
    "autumn": "autumn, autumnal, fall, fall colors, fall colours",
    "winter": "winter, wintertime, wintry, midwinter, christmas",
    "dawn": "dawn, sunrise, daybreak, early morning, first light",
    "morning": "morning, mornings",
    "noon": "noon, midday, daytime, daylight, broad daylight, day, afternoon",
    "golden": "golden hour, golden, golden light, late afternoon, sunlit",
    "sunset": "sunset, sundown, evening, sunset light, evening light",
    "dusk": "dusk, twilight, blue hour, nightfall",
    "night": "night, nighttime, night time, moonlight, moonlit, midnight, nocturnal, at night, starry night, "
    "day for night",
    # tone and colour
    "warm": "warm, warmer, warmth, warmly, warm light, warm tones, warm up, cozy, cosy",
    "cool": "cool, cooler, cold, colder, chilly, cool tones, icy, cold light",
    "bright": "bright, brighter, brighten, brighten up, brightness, lighter, lighten, exposure, airy, high key, "
    "luminous",
    "dark": "dark, darker, darken, dim, dimmer, low key, moody, underexposed",
    "contrast": "contrast, contrasty, punchy, punchier, dramatic, dramatically",
    "flat": "low contrast, flat, flatter, matte, faded, fade, washed out",
    "vivid": "vivid, vibrant, saturated, saturation, saturate, colorful, colourful, vibrance, more color, more colour",
    "muted": "muted, desaturated, desaturate, pastel, subdued, washed, toned down",
    "mono": "black and white, black & white, b&w, bw, monochrome, monochromatic, greyscale, grayscale, grey scale, "
    "gray scale, noir, film noir, black-and-white",
    "sepia": "sepia, sepia toned, antique, old photograph, daguerreotype",
    "vintage": "vintage, retro, nostalgic, polaroid, 70s, 1970s, analog, analogue",
    "teal_orange": "teal and orange, orange and teal, cinematic, blockbuster, filmic, movie look",
    "invert": "invert, inverted, negative, x-ray, xray",
    "levels": "auto levels, autolevels, white balance, normalise, normalize, normalised, normalized, grey world, "
    "gray world, colour correct, color correct, colour correction, color correction, balanced, neutral",
    # light and air
    "vignette": "vignette, vignetting, darkened corners, dark corners, darken corners, darken the corners, "
    "darken edges, "
    "darken the edges",
    "fog": "fog, foggy, mist, misty, haze, hazy, smoky",
    "rain": "rain, rainy, raining, rainfall, drizzle, stormy, storm, raindrops, downpour",
    "snow": "snow, snowy, snowing, snowfall, snowflakes, snowstorm, blizzard, falling snow",
    "sunny": "sunny, sunshine, sunlight, sun-drenched",
    "grain": "grain, grainy, film grain, noise, noisy, add noise",
    "glow": "glow, glowing, soft focus, dreamy, ethereal, bloom, soft light, softer light, romantic",
    "blur": "blur, blurred, blurry, blurrier, out of focus, defocus, defocused, bokeh",
    "sharpen": "sharp, sharper, sharpen, sharpness, crisp, crisper, clarity, detailed, hdr",
    # media
    "sketch": "pencil sketch, sketch, pencil drawing, line drawing, line art, lineart, pencil, charcoal, drawing, "
    "hand drawn, hand-drawn, ink drawing",
    "watercolour": "watercolour, watercolor, aquarelle, watercolour painting, watercolor painting, gouache",
    "oil": "oil painting, oil paint, oil-painting, painting, painted, painterly, impressionist, impressionism, "
    "brush strokes",
    "poster": "poster, posterise, posterize, posterised, posterized, pop art, screen print, screenprint, comic, "
    "cartoon, "
    "comic book, flat colours, flat colors, anime",
    "pixelate": "pixelate, pixelated, pixel art, mosaic, 8-bit, 8bit, pixels",
    # geometry
    "frame=white": "border, add a frame, with a frame, picture frame, framed, white border, white frame, mat, "
    "passepartout",
    "frame=black": "black border, black frame, dark border, dark frame",
    "frame=wood": "wooden frame, wood frame, gold frame, golden frame",
    "flip=x": "flip, flipped, mirror, mirrored, mirror image, flip horizontally, flipped horizontally, "
    "horizontal flip, "
    "flip horizontal, flip it horizontally, flip left to right, mirror horizontally, reversed",
    "flip=y": "flip vertically, flipped vertically, vertical flip, flip vertical, flip it vertically, "
    "flip top to bottom, "
    "mirror vertically",
    "rotate=180": "upside down, upside-down, turn upside down",
    "crop=1:1": "square, crop square, square crop, crop to square, crop to a square",
    "crop=16:9": "widescreen, wide screen, letterbox",
    "crop=21:9": "panorama, panoramic, ultrawide",
    "crop=9:16": "vertical format, phone format, story format",
    "zoom": "zoom in, close up, close-up, closeup, closer, zoom, tighter, tighter crop, zoomed in, macro",
    "zoom=out": "zoom out, zoomed out, wider view, further away",
    # several pictures
    "collage": "collage, side by side, side-by-side, diptych, montage, combine, combined, combining, "
    "put together, next to "
    "each other, grid",
    "blend": "double exposure, superimpose, superimposed, overlay, overlaid, merge, merged, blend, blended, blending",
}

COLOURS: dict[str, tuple[int, int, int]] = {
    "red": (214, 48, 49), "crimson": (190, 20, 60), "scarlet": (230, 40, 30), "maroon": (128, 20, 40),
    "burgundy": (120, 20, 50), "coral": (255, 127, 100), "salmon": (250, 150, 130), "orange": (243, 130, 30),
    "amber": (255, 180, 40), "gold": (225, 175, 55), "yellow": (247, 208, 50), "lime": (160, 215, 60),
    "green": (52, 160, 80), "emerald": (20, 150, 105), "olive": (125, 130, 50), "mint": (150, 225, 190),
    "teal": (20, 140, 145), "turquoise": (50, 195, 190), "cyan": (40, 190, 220), "aqua": (60, 200, 210),
    "blue": (45, 105, 210), "navy": (30, 45, 110), "indigo": (75, 60, 160), "azure": (60, 140, 235),
    "violet": (135, 80, 200), "purple": (125, 60, 170), "lavender": (180, 165, 225), "lilac": (200, 165, 215),
    "magenta": (210, 50, 150), "pink": (240, 130, 170), "rose": (225, 105, 130), "brown": (125, 82, 50),
    "beige": (225, 210, 180), "cream": (245, 235, 210), "terracotta": (200, 105, 75), "rust": (175, 80, 40),
}  # fmt: skip

WHOLE_DAY = ("dawn", "noon", "sunset", "night")
SPREADS: dict[str, tuple[str, ...]] = {
    "four seasons": SEASONS, "4 seasons": SEASONS, "all seasons": SEASONS, "each season": SEASONS, "seasons": SEASONS,
    "every season": SEASONS, "seasonal": SEASONS, "through the year": SEASONS, "season": SEASONS,
    "times of day": WHOLE_DAY, "time of day": WHOLE_DAY, "times of the day": WHOLE_DAY, "time of the day": WHOLE_DAY,
    "through the day": WHOLE_DAY, "over a day": WHOLE_DAY, "course of a day": WHOLE_DAY, "day cycle": WHOLE_DAY,
    "weathers": ("sunny", "fog", "rain", "snow"), "weather conditions": ("sunny", "fog", "rain", "snow"),
    "art styles": ("sketch", "watercolour", "oil", "poster"), "painting styles": ("sketch", "watercolour",
    "oil", "poster"),
}  # fmt: skip
"""Words that stand for a list; one operation per panel."""

MODIFIERS: dict[str, float] = {
    "slightly": 0.5, "a bit": 0.55, "a little": 0.55, "a touch": 0.5, "a touch of": 0.5, "a hint of": 0.45,
    "subtle": 0.5,
    "subtly": 0.5, "gentle": 0.6, "gently": 0.6, "faint": 0.45, "mild": 0.55, "mildly": 0.55, "soft": 0.7,
    "softly": 0.7,
    "somewhat": 0.7, "little": 0.6, "light": 0.6, "lightly": 0.6, "a little bit": 0.5, "moderately": 0.8,
    "very": 1.45, "much": 1.45, "strongly": 1.5, "strong": 1.5, "heavy": 1.5, "heavily": 1.5, "really": 1.4,
    "deep": 1.3,
    "deeply": 1.4, "extremely": 1.8, "intense": 1.6, "intensely": 1.6, "a lot": 1.5, "far": 1.4, "lots of": 1.5,
    "super": 1.5, "extra": 1.3, "thick": 1.5, "dense": 1.5, "too": 1.2, "even": 1.2, "highly": 1.4,
}  # fmt: skip
LESSENERS = frozenset({"less", "reduce", "lower", "decrease", "reduced", "lowered", "decreased", "lowering",
    "reducing",
                       "minus", "toned", "weaker", "fewer", "down"})  # fmt: skip
OPPOSITES = {
    "warm": "cool", "cool": "warm", "bright": "dark", "dark": "bright", "contrast": "flat", "flat": "contrast",
    "vivid": "muted", "muted": "vivid", "sharpen": "blur", "blur": "sharpen",
}  # fmt: skip
NEGATIONS = frozenset({"not", "no", "without", "don't", "dont", "never", "avoid", "nor", "isn't", "shouldn't",
    "exclude",
                       "excluding", "doesn't", "cannot", "can't", "won't", "neither"})  # fmt: skip
KEEPERS = frozenset({"keep", "keeping", "preserve", "preserving", "maintain", "maintaining", "retain", "retaining",
                     "leave", "leaving", "same", "unchanged", "identical"})  # fmt: skip
CHANGERS = frozenset({"add", "adding", "remove", "removing", "replace", "replacing", "put", "putting",
    "insert", "erase",
                      "delete", "swap", "change", "place", "wearing", "give", "draw", "holding"})  # fmt: skip
"""Verbs that ask for an object to come, go or change: with an unknown word after them, "
    "the whole phrase is reported."""

_PASSED_OVER = """
    a an the this that these those it its it's they them their there here he she his her him i me my we us our
    you your and or but so as at by for from in into of off on onto out over to toward towards under up upon
    with within while if then than when where which who be been being is are was were am do does did has have
    had having can could should would will may might must let lets let's get gets make makes made making turn
    turns turned turning give gives giving show shows showing shown look looks looking feel feels feeling apply
    applied applying set sets setting go goes going use using used want wants need needs please just only also
    too very more most some any all each every both other another one ones two three four five six seven eight
    nine ten eleven twelve thirteen fourteen fifteen first second third last once whole entire full real true
    good nice great beautiful pretty lovely fine clean new natural naturally overall generally quite about
    around like such through across during image images picture pictures photo photos photograph photographs
    photography pic pics shot shots panel panels variant variants variation variations version versions option
    options series sequence storyboard frame frames scene scenes edit edits edited editing retouch render
    rendering result results output outputs same consistent consistency consistently coherent composition
    compose composed identity style styles styled stylised stylized mood moods tone tones toned toning tint
    tints tinted hue hues color colors colour colours coloured colored colouring coloring palette light lighting
    lights lit atmosphere atmospheric vibe vibes effect effects filter filters finish grade grading graded
    treatment theme themed background foreground subject object content detail details quality high resolution
    aspect ratio format size different distinct various several multiple many few matching match reference
    references original source keep keeping leave convert converted change changed changes adjust adjusted
    adjusting increase increased increasing raise boost boosted create created creating generate generated
    generating produce transform transformed transforming become becomes becoming transition degrees degree
    percent crop cropped cropping rotate rotated rotating left right top bottom center centre middle clockwise
    horizontally vertically horizontal vertical little bit lot touch hint add adding added put take taken view
    seen sky perfect professional realistic photorealistic cinematic 4k 8k 2k hd uhd art artistic artwork
    illustration illustrated illustrate text caption title words saying says reading labelled labeled label
    headline not no without less much slightly again back still now even well instead except exactly fresh
    progression progressive progressively gradually gradual stages stage step steps time times day hour combine
    combined together side next between time-lapse timelapse alone simple kind type sort way thing things stuff
"""
STOP_WORDS = frozenset(_PASSED_OVER.split())


def _parse(written: str) -> tuple[str, float, str]:
    name, _, argument = written.partition("=")
    return name, 1.0, argument


PHRASES: dict[tuple[str, ...], tuple[str, float, str]] = {
    tuple(phrase.strip().split()): _parse(written)
    for written, phrases in _OPERATIONS.items()
    for phrase in phrases.split(",")
}
"""Phrase as words → operation name, strength, argument."""
LONGEST_PHRASE = max(len(phrase) for phrase in (*PHRASES, *(p.split() for p in (*SPREADS, *MODIFIERS))))
