"""Looks: stored by `upload_images`, used as `look:NAME`, kept by each job in the version that it used."""

from __future__ import annotations

from pathlib import Path

import pytest

from support.fixtures import Emulator, Finish, MakeService
from support.jobs import NOW, Options, edit_chain, edit_sequence, ended
from support.pictures import picture
from triptych.core import errors
from triptych.jobs.results import UploadResult
from triptych.jobs.service import Caller, ImageService

pytestmark = pytest.mark.anyio

ANN, BEN, NOBODY = Caller(owner="ann"), Caller(owner="ben"), Caller(owner="")
WORDS = "soft morning light, warm film grain"


def data_uri(colour: str) -> str:
    from base64 import b64encode

    return f"data:image/png;base64,{b64encode(picture(colour)).decode()}"


async def look(
    service: ImageService,
    *colours: str,
    name: str = "coffee",
    words: str | None = WORDS,
    caller: Caller | None = None,
) -> UploadResult:
    return await service.upload_images([data_uri(one) for one in colours], caller or Caller(), name, words)


async def refusal(service: ImageService, *images: str, caller: Caller | None = None) -> str:
    with pytest.raises(errors.BadRequest) as refused:
        await edit_sequence(service, images, "warmer", 1, NOW, caller)
    return refused.value.message


# -- stored ------------------------------------------------------------------------------------------------------------


async def test_an_upload_with_a_look_says_its_version_and_use(make_service: MakeService) -> None:
    async with make_service() as service:
        first = await look(service, "teal", "navy")
        assert first.look == "look:coffee version 1: 2 images, 35 characters of words"
        assert first.next == 'edit_sequence(images=["img_…", "look:coffee"], prompt="…", count=4)'
        assert first.look in first.text() and not first.warnings
        assert (await look(service, "teal", "navy")).look == first.look, "unchanged"
        assert (await look(service, "navy", "teal")).look == first.look.replace("version 1", "version 2")


async def test_a_version_without_the_words_of_the_last_warns(make_service: MakeService) -> None:
    async with make_service() as service:
        await look(service, "teal")
        second = await look(service, "teal", words=None)
        assert second.look == "look:coffee version 2: 1 image, no words"
        assert second.warnings == [
            "Version 1 of look:coffee has words, this one has none: give words again if they are to stay."
        ]


@pytest.mark.parametrize(
    ("name", "words", "count", "why"),
    [
        (None, WORDS, 1, 'words belong to a look, and none is named: add look="NAME"'),
        ("coffee", None, 15, "A look has 1 to 14 images; 15 were given."),
        ("coffee", "w" * 2001, 1, "at most 2000 characters; 2001 were given"),
        ("warm film", None, 1, '1 to 40 letters, digits, - and _, such as look:warm-film; it was "warm film"'),
        ("x" * 41, None, 1, "1 to 40 letters"),
        ("../../etc", None, 1, "1 to 40 letters"),
    ],
)
async def test_what_makes_no_look_is_refused_with_the_reason(
    make_service: MakeService, coffee: str, name: str | None, words: str | None, count: int, why: str
) -> None:
    async with make_service() as service:
        with pytest.raises(errors.BadRequest) as refused:
            await service.upload_images([coffee] * count, Caller(), name, words)
        assert why in refused.value.message
        assert not (await service.looks.listed(Caller())).looks


async def test_a_name_counts_in_any_case(make_service: MakeService) -> None:
    async with make_service() as service:
        await look(service, "teal", name="look:Straße-Film_2")
        assert [one.name for one in (await service.looks.listed(Caller())).looks] == ["strasse-film_2"]
        done = await edit_sequence(service, [data_uri("red"), " LOOK:STRASSE-film_2 "], "warmer")
        assert done.status == "done"


async def test_an_output_can_be_part_of_a_look(make_service: MakeService, coffee: str) -> None:
    async with make_service() as service:
        done = await edit_sequence(service, [coffee], "warmer")
        kept = await service.upload_images([f"{done.job_id}/1"], Caller(), "warm")
        assert kept.look == "look:warm version 1: 1 image, no words"
        assert (await edit_sequence(service, [coffee, "look:warm"], "warmer")).status == "done"


async def test_a_look_is_shown_saved_and_extended_by_its_name(make_service: MakeService, tmp_path: Path) -> None:
    async with make_service() as service:
        first = await look(service, "teal", "navy")
        handles = ", ".join(one.handle for one in first.images)
        assert (await service.view_images(["look:coffee"])).caption == f"In reading order: {handles}."
        saved = await service.save_images(["look:coffee"], str(tmp_path), None, Caller(roots=(tmp_path,)))
        assert len(saved.saved) == 2
        more = await service.upload_images(["look:coffee", data_uri("gold")], Caller(), "coffee", WORDS)
        assert more.look == "look:coffee version 2: 3 images, 35 characters of words"


# -- whose -------------------------------------------------------------------------------------------------------------


async def test_a_look_is_its_owners_alone(make_service: MakeService, coffee: str) -> None:
    async with make_service() as service:
        await look(service, "teal", caller=ANN)
        for other in (BEN, Caller(), NOBODY):
            assert (await service.looks.listed(other)).looks == []
            told = await refusal(service, data_uri("red"), "look:coffee", caller=other)
            assert told.startswith("There is no look:coffee; there are no looks yet.")
            with pytest.raises(errors.UnknownHandle):
                await service.looks.remove("coffee", other)
        assert [one.name for one in (await service.looks.listed(ANN)).looks] == ["coffee"]
        done = await edit_sequence(service, [data_uri("red"), "look:coffee"], "warmer", 1, Options(), ANN)
        assert done.status == "done"
        with pytest.raises(errors.NotAllowed):
            await look(service, "teal", caller=NOBODY)


async def test_anothers_image_goes_into_no_look(make_service: MakeService) -> None:
    async with make_service() as service:
        (image,) = (await service.upload_images([data_uri("teal")], ANN)).images
        with pytest.raises(errors.UnknownHandle):
            await service.upload_images([image.handle], BEN, "mine")
        assert (await service.looks.listed(BEN)).looks == []


# -- named -------------------------------------------------------------------------------------------------------------


async def test_an_unknown_look_is_refused_with_the_known_ones(make_service: MakeService, coffee: str) -> None:
    async with make_service() as service:
        await look(service, "teal", name="tea")
        await look(service, "teal", name="cocoa")
        assert await refusal(service, coffee, "look:cofee") == (
            "There is no look:cofee; there are: look:cocoa, look:tea. "
            'upload_images(images=[…], look="cofee", words="…") makes it.'
        )


async def test_a_removed_look_is_refused_as_removed(make_service: MakeService, coffee: str) -> None:
    async with make_service() as service:
        await look(service, "teal")
        assert (await service.looks.remove("Coffee", Caller())).version == 1
        assert await refusal(service, coffee, "look:coffee") == (
            "look:coffee was removed; there are no looks yet. "
            'upload_images(images=[…], look="coffee", words="…") makes version 2.'
        )
        assert ((await look(service, "teal")).look or "").startswith("look:coffee version 2")
        assert (await edit_sequence(service, [coffee, "look:coffee"], "warmer")).status == "done"


async def test_a_call_takes_one_look_in_its_place(make_service: MakeService, coffee: str) -> None:
    async with make_service() as service:
        await look(service, "teal", name="tea")
        await look(service, "navy", name="cocoa")
        assert "One look is used in a call; " in await refusal(service, coffee, "look:tea", "look:cocoa")
        with pytest.raises(errors.BadRequest, match="goes among the references of edit_chain"):
            await edit_chain(service, [coffee, "look:tea"], ["warmer"], (), NOW)


# -- kept --------------------------------------------------------------------------------------------------------------


def sent(atlas: Emulator) -> list[tuple[str, list[str]]]:
    """Return the prompt and the URLs of each submit."""
    bodies = [one.json for one in atlas.seen if one.path.endswith("generateImage") and one.json]
    return [(body["prompt"], body["images"]) for body in bodies]


async def urls(service: ImageService, *colours: str) -> list[str]:
    """Return the URLs of pictures at Atlas."""
    stored = await service.upload_images([data_uri(one) for one in colours])
    return [one.url or "" for one in stored.images]


async def test_a_look_comes_last_in_every_request_of_a_chain(
    make_service: MakeService, atlas: Emulator, finish: Finish
) -> None:
    async with make_service(atlas) as service:
        await look(service, "teal", "navy")
        job = await edit_chain(service, [data_uri("red")], ["warmer", "a cup!"], ["look:coffee", data_uri("gold")], NOW)
        done = await ended(service, finish, job.job_id)
        assert done.status == "done"
        (first, of_first), (second, of_second) = sent(atlas)
        red, gold, teal, navy = await urls(service, "red", "gold", "teal", "navy")
        assert first == f"warmer. Keep this look: {WORDS}" and second == f"a cup! Keep this look: {WORDS}"
        assert of_first == [red, gold, teal, navy]
        assert of_second == [{one.handle: one.url for one in done.images}[f"{job.job_id}/1"], gold, teal, navy]
        assert service.store.plain.predictions(job.job_id or "")[1].prompt == "a cup!", "in the caller's words"


async def test_a_changed_look_changes_no_job_that_was_made(
    make_service: MakeService, atlas: Emulator, finish: Finish
) -> None:
    async with make_service(atlas) as service:
        await look(service, "teal")
        job = await edit_chain(service, [data_uri("red")], ["warmer", "a cup"], ["look:coffee"], NOW)
        await service.worker.step()
        await look(service, "navy", words="hard light")
        await service.looks.remove("coffee", Caller())
    async with make_service(atlas) as service:  # after a restart
        done = await ended(service, finish, job.job_id)
        assert done.status == "done"
        teal = (await urls(service, "teal"))[0]
        assert [(prompt.rpartition(": ")[2], images[-1]) for prompt, images in sent(atlas)] == [(WORDS, teal)] * 2
        kept = service.store.plain.job(job.job_id or "")
        assert kept and kept.request.look and kept.request.look.version == 1


async def test_a_retry_keeps_the_version_and_the_original_unless_another_look_is_named(
    make_service: MakeService, atlas: Emulator, finish: Finish
) -> None:
    steps = ["warmer", "a cup [[emulate:submit/moderated-before times=1]]", "at night"]
    async with make_service(atlas) as service:
        (red,) = (await service.upload_images([data_uri("red")])).images
        (teal,) = (await look(service, "teal")).images
        job = await edit_chain(service, [red.handle], steps, ["original", "look:coffee"], NOW)
        first = await ended(service, finish, job.job_id)
        assert first.status == "partial", first.text()
        await look(service, "navy", words="hard light")
        again = await ended(service, finish, (await edit_chain(service, [f"{job.job_id}/failed"], [], (), NOW)).job_id)
        assert (again.status, again.requested) == ("done", 2), again.text()
        assert [prompt.rpartition(": ")[2] for prompt, _ in sent(atlas)] == [WORDS] * 4
        assert [output.source for output in await service.store.outputs(again.job_id or "")] == [
            (f"{job.job_id}/1", red.handle, teal.handle), (f"{again.job_id}/2", red.handle, teal.handle)
        ]  # fmt: skip
        other = await edit_chain(service, [f"{job.job_id}/failed"], [], ["look:coffee"], NOW)
        made = service.store.plain.job(other.job_id or "")
        assert made and made.request.look and made.request.look.version == 2
        assert made.request.references == ("original",)


async def test_a_changed_look_is_another_request(make_service: MakeService, coffee: str) -> None:
    async with make_service() as service:
        jobs = []
        for colours in (("teal",), ("teal",), ("teal", "navy"), ("teal",)):
            await look(service, *colours)
            jobs.append((await edit_sequence(service, [coffee, "look:coffee"], "warmer")).job_id)
        assert jobs[0] == jobs[1] == jobs[3], "the same words and pictures, by whatever version"
        assert jobs[2] != jobs[0]


async def test_the_words_count_for_the_length_of_a_prompt(make_service: MakeService, atlas: Emulator) -> None:
    async with make_service(atlas) as service:
        await look(service, "teal", words="w" * 2000)
        with pytest.raises(errors.OutOfLimits, match="4008 characters"):
            await edit_sequence(service, [data_uri("red"), "look:coffee"], "p" * 1990, 1, NOW)
        assert not sent(atlas)


async def test_a_look_alone_is_enough_for_an_edit(make_service: MakeService, atlas: Emulator, finish: Finish) -> None:
    async with make_service(atlas) as service:
        await look(service, "teal", "navy")
        job = await ended(service, finish, (await edit_sequence(service, ["look:coffee"], "a cup", 2, NOW)).job_id)
        assert job.status == "done"
        assert sent(atlas)[0][1] == await urls(service, "teal", "navy")


async def test_what_a_model_does_not_take_of_a_look_is_named(
    make_service: MakeService, atlas: Emulator, finish: Finish
) -> None:
    async with make_service(atlas) as service:
        kept = await look(service, *(f"#0000{n:02x}" for n in range(0, 140, 10)))
        job = await ended(
            service, finish, (await edit_sequence(service, [data_uri("red"), "look:coffee"], "a cup", 4, NOW)).job_id
        )
        assert job.status == "done"
        assert len(sent(atlas)[0][1]) == 11, "with 4 outputs 15"
        left_out = ", ".join(one.handle for one in kept.images[10:])
        assert (
            f"4 of the 14 images of look:coffee are left out ({left_out}): seedream-5.0-lite on atlas takes 11 in a "
            "request, and the call has 1 itself." in job.warnings
        )


async def test_a_dry_run_shows_the_request_with_the_look(make_service: MakeService, atlas: Emulator) -> None:
    async with make_service(atlas) as service:
        await look(service, "teal")
        (teal,) = await urls(service, "teal")
        dry = Options(dry_run=True)
        plan = await edit_sequence(service, [data_uri("red"), "look:coffee"], "warmer", 1, dry)
        assert plan.request and plan.request["json"]["images"][1] == teal
        assert plan.request["json"]["prompt"] == f"warmer. Keep this look: {WORDS}"
        assert not sent(atlas)


async def test_the_words_of_a_look_name_no_count(make_service: MakeService, atlas: Emulator, finish: Finish) -> None:
    async with make_service(atlas) as service:
        await look(service, "teal", words="like a set of 2 icons")
        job = await edit_sequence(service, [data_uri("red"), "look:coffee"], "warmer", 2, NOW)
        assert (await ended(service, finish, job.job_id)).status == "done"
        assert sent(atlas)[0][0] == ("warmer. Generate exactly 2 images. Keep this look: like a set of 2 icons")


async def test_a_picture_that_is_in_the_look_is_sent_once(make_service: MakeService, atlas: Emulator) -> None:
    both = [data_uri("blue"), data_uri("red")]
    async with make_service(atlas) as service:
        await service.upload_images(both, look="pair", words="x")
        options = Options(dry_run=True)
        chain = await edit_chain(service, both, ["warm"], ["look:pair"], options)
        assert len((chain.request or {})["json"]["images"]) == 2
        apart = await edit_chain(service, both, ["warm"], [], options)
        assert chain.cost.quoted and apart.cost.quoted and chain.cost.quoted > apart.cost.quoted
        alone = await edit_sequence(service, [both[0], "look:pair"], "warm", options=options)
        assert len((alone.request or {})["json"]["images"]) == 2


async def test_an_archive_is_no_directory_for_copies(
    make_service: MakeService, atlas: Emulator, tmp_path: Path
) -> None:
    async with make_service(atlas, TRIPTYCH_ALLOWED_DIRS=str(tmp_path)) as service:
        with pytest.raises(errors.BadRequest, match="save_images makes"):
            await edit_chain(service, [data_uri("blue")], ["warm"], [], Options(save_to=str(tmp_path / "out.zip")))
        with pytest.raises(errors.BadRequest, match="save_images makes"):  # before an image is read
            await edit_chain(service, ["missing.png"], ["warm"], [], Options(save_to=str(tmp_path / "out.zip")))
        assert not atlas.jobs
