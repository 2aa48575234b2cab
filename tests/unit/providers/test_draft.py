"""The offline engine as a provider: finished at once, free, and without a single call."""

from __future__ import annotations

import io
from decimal import Decimal
from pathlib import Path

import pytest
from PIL import Image as Pixels

import triptych
from support.flows import asked
from triptych import catalog, providers
from triptych.core import errors
from triptych.core.models import Done, ProviderRequest, Reference
from triptych.core.offers import Operation
from triptych.providers import draft

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
        "offer": catalog.choose(draft.PROVIDER.offers, operation, "draft", 2),
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


def test_a_small_reference_keeps_its_own_size() -> None:
    offer = edit(Operation.EDIT).offer
    assert catalog.resolve_size(offer, None, (320, 240)) == (320, 240)
    assert catalog.resolve_size(offer, None, None) == (1024, 1024)


def test_a_reference_without_bytes_is_refused() -> None:
    with pytest.raises(errors.UnreadableImage):
        finished(edit(Operation.EDIT, references=(Reference("0", "image/png", url="https://host.example/1.png"),)))
