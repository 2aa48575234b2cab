"""What the tests of the thin start share: a home with images, and the real server over it in this process."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

import pytest
from anyio.from_thread import start_blocking_portal

from support.servers import SMALL, environ
from support.thin_here import Judged
from support.wire import Answers
from triptych import settings
from triptych.jobs import service
from triptych.jobs.planning import read_arguments
from triptych.jobs.service import Caller, ImageService


@pytest.fixture(scope="session")
def judged(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Judged]:
    home = tmp_path_factory.mktemp("thin") / "home"
    env = environ(home, TRIPTYCH_MODELS="builtin")

    @asynccontextmanager
    async def opened() -> AsyncIterator[tuple[ImageService, Answers]]:
        async with service.open_service(settings.read(env).setup) as real:
            given = {"prompt": "a boat", "count": 2, "size": SMALL, "wait_s": 30}
            made = await real.make(*read_arguments("generate_sequence", given), Caller())
            assert made.status == "done"

            async def open_service() -> ImageService:
                return real

            async with Answers(open_service).counting() as answers:
                yield real, answers

    with start_blocking_portal() as portal, portal.wrap_async_context_manager(opened()) as (_, answers):
        yield Judged(home, env, portal, answers)
