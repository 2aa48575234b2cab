"""The offline engine as a provider: finished at once, free, and without a single call."""

from __future__ import annotations

import io
import itertools
from decimal import Decimal
from pathlib import Path

import pytest
from PIL import Image as Pixels
from PIL import ImageDraw, ImageStat

import triptych
from support.flows import asked
from triptych import catalog, providers
from triptych.core import errors
from triptych.core.models import Done, Layer, ProviderRequest, Reference
from triptych.core.offers import Operation
from triptych.images import contact_sheet
from triptych.providers import draft
from triptych.providers.preview import tone

SAMPLES = Path(triptych.__file__).parent / "samples"


def finished(edit: ProviderRequest) -> Done:
    """Return what the flow returns; a call would be an error."""
    try:
        call = next(draft.PROVIDER.submit(edit))
    except StopIteration as stop:
        assert isinstance(stop.value, Done)
        return stop.value
    raise AssertionError(f"the offline engine wanted {call}")


def small_photo() -> Reference:
    photo = Pixels.open(SAMPLES / "cat.jpg").convert("RGB")
    photo.thumbnail((320, 320))
    packed = io.BytesIO()
    photo.save(packed, "PNG")
    return Reference("0" * 64, "image/png", data=packed.getvalue())


def edit(operation: Operation, **changes: object) -> ProviderRequest:
    plain = {
        "offer": catalog.choose(draft.PROVIDER.offers, operation, "draft", 2 if operation.sequential else 1),
        "prompt": "make it warmer",
        "count": 2 if operation.sequential else 1,
        "size": None,
        "format": None,
        "references": (small_photo(),) if operation.edits else (),
    }
    return asked(**{**plain, **changes})  # type: ignore[arg-type]


def test_it_is_found_like_any_provider_but_needs_no_key() -> None:
    assert "draft" in providers.names() and not any(name.startswith("_") for name in providers.names())
    assert providers.load("draft").offline
    assert {offer.endpoint for offer in draft.PROVIDER.offers} == {
        "draft/generate",
        "draft/generate-sequential",
        "draft/edit",
        "draft/edit-sequential",
        "draft/layers",
    }


@pytest.mark.parametrize("operation", [Operation.EDIT, Operation.EDIT_SEQUENTIAL])
def test_an_edit_is_finished_at_once_and_costs_nothing(operation: Operation) -> None:
    asked = edit(operation)
    done = finished(asked)
    assert len(done.outputs) == asked.count
    assert done.charged_usd == Decimal(0)
    frame = Pixels.open(io.BytesIO(done.outputs[0].data or b""))
    assert frame.format == "PNG" and max(frame.size) == 320
    assert catalog.quote(asked.offer, asked.count, asked.size, len(asked.references)).usd == 0


def test_a_panel_has_the_requested_size_and_format() -> None:
    done = finished(edit(Operation.GENERATE_SEQUENTIAL, size=(320, 240), format="jpeg"))
    frames = [Pixels.open(io.BytesIO(output.data or b"")) for output in done.outputs]
    assert [(frame.format, frame.size) for frame in frames] == [("JPEG", (320, 240))] * 2


def test_the_same_words_give_the_same_panel() -> None:
    small = {"size": (256, 256), "prompt": "a lighthouse"}
    first, again = finished(edit(Operation.GENERATE, **small)), finished(edit(Operation.GENERATE, **small))
    other = finished(edit(Operation.GENERATE, **small, variation="another"))
    assert first.outputs == again.outputs != other.outputs


def picture(background: str = "#f0eee8") -> Reference:
    """Return a red disc with a hole in the background's colour, and a blue square, on a plain background."""
    drawn = Pixels.new("RGB", (300, 200), background)
    draw = ImageDraw.Draw(drawn)
    draw.ellipse((60, 40, 160, 160), fill="#c83c28")
    draw.ellipse((100, 90, 120, 110), fill=background)
    draw.rectangle((210, 100, 260, 170), fill="#285ab4")
    packed = io.BytesIO()
    drawn.save(packed, "PNG")
    return Reference("1" * 64, "image/png", data=packed.getvalue())


def frames_of(done: Done) -> list[Pixels.Image]:
    return [Pixels.open(io.BytesIO(output.data or b"")) for output in done.outputs]


def set_to(params: dict[str, object], operation: Operation = Operation.EDIT, **changes: object) -> Done:
    """Return what the flow returns for these parameters, checked as a request's are."""
    request = edit(operation, **{"references": (picture(),), "params": params, **changes})
    catalog.check_params(request.offer, request.request)
    return finished(request)


@pytest.mark.parametrize("format", ["png", "webp"])
def test_a_plain_background_becomes_transparent(format: str) -> None:
    (frame,) = frames_of(set_to({"background": "transparent"}, format=format))
    assert (frame.format, frame.mode, frame.size) == (format.upper(), "RGBA", (300, 200))
    alpha = frame.getchannel("A")
    corners = [alpha.getpixel(place) for place in ((0, 0), (299, 0), (0, 199), (299, 199), (185, 60))]
    assert corners == [0] * 5
    assert alpha.getpixel((80, 100)) == alpha.getpixel((235, 135)) == 255
    assert alpha.getpixel((110, 100)) == 255, "the hole belongs to the subject"
    red, green, blue, _ = frame.getpixel((80, 100))  # type: ignore[misc]
    assert red > 2 * blue and red > 2 * green


@pytest.mark.parametrize(
    "words", ["zoom out", "rotate 90 degrees", "flip it", "four seasons", "black frame", 'add the caption "Hi"']
)
def test_what_moves_the_picture_moves_its_cut(words: str) -> None:
    count = 4 if words == "four seasons" else 1
    operation = Operation.EDIT_SEQUENTIAL if count > 1 else Operation.EDIT
    for frame in frames_of(set_to({"background": "transparent"}, operation, prompt=words, count=count)):
        share = ImageStat.Stat(frame.getchannel("A")).mean[0] / 255
        assert 0.08 < share < 0.6
        flat = contact_sheet.opaque(frame, checker=False)
        assert "frame" in words or flat.getpixel((2, 2)) == (255, 255, 255)


def test_opaque_and_no_parameter_have_no_alpha() -> None:
    see_through = Pixels.open(io.BytesIO(picture().data or b"")).convert("RGBA")
    see_through.paste((0, 0, 0, 0), (0, 0, 40, 40))
    packed = io.BytesIO()
    see_through.save(packed, "PNG")
    references = (Reference("2" * 64, "image/png", data=packed.getvalue()),)
    for params in ({"background": "opaque"}, {}):
        (frame,) = frames_of(set_to(params, references=references, prompt="black and white"))
        assert frame.mode == "RGB" and frame.getpixel((10, 10)) == (255, 255, 255)
    for background in ("auto", "transparent"):
        (frame,) = frames_of(set_to({"background": background}, references=references))
        assert frame.mode == "RGBA" and frame.getchannel("A").getpixel((10, 10)) == 0
        assert frame.getchannel("A").getpixel((200, 10)) == 255, "only what was transparent already"


def test_a_photograph_keeps_its_background_with_a_warning() -> None:
    done = set_to({"background": "transparent"}, references=(small_photo(),))
    assert frames_of(done)[0].mode == "RGB"
    assert any("removes a plain background only" in warning for warning in done.warnings)


@pytest.mark.parametrize("words", ["a red balloon", "a house at night", "an abstract logo", "a mountain", "a cat"])
def test_a_scene_comes_without_its_backdrop(words: str) -> None:
    made = {"references": (), "size": (320, 240), "prompt": words}
    (frame,) = frames_of(set_to({"background": "transparent"}, Operation.GENERATE, **made))
    alpha = frame.getchannel("A")
    assert alpha.getpixel((1, 1)) == alpha.getpixel((318, 1)) == 0
    assert 0.01 < ImageStat.Stat(alpha).mean[0] / 255 < 0.7 and alpha.getextrema() == (0, 255)
    (whole,) = frames_of(set_to({}, Operation.GENERATE, **made))
    assert whole.mode == "RGB"


@pytest.mark.parametrize("operation", [Operation.EDIT, Operation.GENERATE])
def test_a_seed_is_a_version_that_can_be_had_again(operation: Operation) -> None:
    fixed = {"prompt": "a lighthouse", "size": (256, 192), "references": (picture(),) if operation.edits else ()}
    plain, first, again, second = (
        set_to(params, operation, **fixed) for params in ({}, {"seed": 1}, {"seed": 1}, {"seed": 2})
    )
    assert first.outputs == again.outputs
    seen = [frames_of(one)[0] for one in (plain, first, second)]
    apart = [tone.distance(one, other) for one, other in itertools.combinations(seen, 2)]
    assert min(apart) > 2


@pytest.mark.parametrize(
    ("params", "words"),
    [
        ({"seed": -1}, "a whole number from 0"),
        ({"seed": True}, "a whole number from 0"),
        ({"seed": 2**40}, "a whole number from 0"),
        ({"background": "white"}, "auto, transparent, opaque"),
        ({"watermark": True}, "is no image model"),
        ({"strength": 1}, "It has: background"),
    ],
)
def test_a_parameter_that_it_does_not_have_is_refused(params: dict[str, object], words: str) -> None:
    with pytest.raises(errors.OutOfLimits, match=words):
        set_to(params)


# Layers


def test_a_picture_is_taken_apart_into_base_and_layers() -> None:
    done = set_to({"layers": True}, Operation.LAYERS)
    base, disc, square = frames_of(done)
    layers = [output.layer for output in done.outputs]
    assert [layer and layer.z_index for layer in layers] == [0, 1, 2]
    assert layers[0] == Layer(0) and base.mode == "RGB" and base.size == (300, 200)
    assert layers[1] and layers[2]
    assert (layers[1].name, layers[2].name) == ("red left", "blue lower right")
    assert "red part" in layers[1].description
    for frame, layer, place in ((disc, layers[1], (58, 38, 163, 163)), (square, layers[2], (208, 98, 263, 173))):
        assert layer.box and all(abs(a - b) <= 4 for a, b in zip(layer.box, place, strict=True))
        assert (frame.format, frame.mode) == ("PNG", "RGBA")
        assert frame.size == (layer.box[2] - layer.box[0], layer.box[3] - layer.box[1])
    assert disc.getchannel("A").getpixel((0, 0)) == 0
    for place in ((80, 100), (235, 135)):  # the base is filled behind the layers
        pixel = base.getpixel(place)
        assert isinstance(pixel, tuple) and min(pixel) > 215
    again = base.convert("RGBA")
    for frame, layer in ((disc, layers[1]), (square, layers[2])):
        assert layer.box
        again.alpha_composite(frame, layer.box[:2])
    assert tone.distance(again, Pixels.open(io.BytesIO(picture().data or b""))) < 0.7


def test_many_parts_are_at_most_three_layers() -> None:
    drawn = Pixels.new("RGB", (400, 200), "white")
    for n in range(6):
        ImageDraw.Draw(drawn).rectangle((20 + 60 * n, 60, 50 + 60 * n, 90 + 10 * n), fill=(200, 30 * n, 40))
    packed = io.BytesIO()
    drawn.save(packed, "PNG")
    done = set_to({"layers": True}, Operation.LAYERS, references=(Reference("3", "image/png", data=packed.getvalue()),))
    assert len(done.outputs) == 4 == edit(Operation.LAYERS).offer.max_outputs


def test_a_photograph_has_one_guessed_layer() -> None:
    done = set_to({"layers": True}, Operation.LAYERS, references=(small_photo(),), format="jpeg")
    base, layer = frames_of(done)
    assert (base.format, layer.format) == ("JPEG", "PNG")
    assert any("guesses the subject" in warning for warning in done.warnings)


def test_a_blank_picture_is_its_own_base() -> None:
    packed = io.BytesIO()
    Pixels.new("RGB", (64, 48), "teal").save(packed, "PNG")
    done = set_to({"layers": True}, Operation.LAYERS, references=(Reference("4", "image/png", data=packed.getvalue()),))
    assert len(done.outputs) == 1 and any("nothing to take apart" in warning for warning in done.warnings)


@pytest.mark.parametrize("size", [(1, 1), (3, 2), (1, 400), (17, 5)])
def test_the_tiniest_pictures_are_cut_and_taken_apart(size: tuple[int, int]) -> None:
    packed = io.BytesIO()
    Pixels.radial_gradient("L").resize(size).convert("RGB").save(packed, "PNG")
    references = (Reference("5", "image/png", data=packed.getvalue()),)
    for params, operation in (({"background": "transparent"}, Operation.EDIT), ({"layers": True}, Operation.LAYERS)):
        assert frames_of(set_to(params, operation, references=references))[0].size == size


def test_a_small_reference_keeps_its_own_size() -> None:
    offer = edit(Operation.EDIT).offer
    assert catalog.resolve_size(offer, None, (320, 240)) == (320, 240)
    assert catalog.resolve_size(offer, None, None) == (1024, 1024)


def test_a_reference_without_bytes_is_refused() -> None:
    with pytest.raises(errors.UnreadableImage):
        finished(edit(Operation.EDIT, references=(Reference("0", "image/png", url="https://host.example/1.png"),)))
