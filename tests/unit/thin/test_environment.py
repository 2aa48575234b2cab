"""The thin start reads the settings as the real server does, or leaves them to it."""

from __future__ import annotations

import os
from pathlib import Path
from unittest import mock

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from triptych import providers, settings
from triptych.thin import environment

KNOWN = [providers.load(name) for name in providers.names()]
KEYS = {one.name: one.key_env or "" for one in KNOWN}
URLS = frozenset(url.env for one in KNOWN for url in one.base_urls.values())
NAMES = (*environment.JUDGED, "TRIPTYCH_PROVIDER", "ATLASCLOUD_API_KEY", "ATLASCLOUD_BASE_URL")
VALUES = (
    *("5", "0.50", "$3", "none", "-1", "1e3", "١", ".5", "5.", "nan", "on", "off", "ON", "live", "builtin"),
    *("/x", "~/x", "~nobody-here/x", "x/y", "~", "/a:/b", "/a:b", " ", "", "atlas", "sk-abc", "a b", "ä", "a\nb"),
    *("http://127.0.0.1:80/v1", "http://127.0.0.1:99999", "http://127.0.0.1", "http://evil.example:80"),
    *("http://127.0.0.1:80@evil.example/", "https://a.example", "https://a..b", "https://1.2", "https://a:b@c"),
    *("https://xn--zz.example/", "http://127.0.0.1:8/a b", "http://localhost:8/%zz"),
)


@given(st.dictionaries(st.sampled_from(NAMES), st.sampled_from(VALUES) | st.text(max_size=9)))
@example({"ATLASCLOUD_BASE_URL": "http://127.0.0.1:80/v1", "TRIPTYCH_BUDGET_USD": "5"})
def test_settings_that_are_judged_are_accepted_by_the_server(environ: dict[str, str]) -> None:
    if environment.is_judged(environ, KEYS, URLS):
        settings.read(environ)


@pytest.mark.parametrize("name", ["TRIPTYCH_DATABASE_URL", "TRIPTYCH_PROVIDER", "TRIPTYCH_WEBHOOKS", "OTEL_X"])
def test_another_setting_is_left_to_the_server(name: str) -> None:
    assert environment.is_judged({"TRIPTYCH_BUDGET_USD": "5", "PATH": "/"}, KEYS, URLS)
    assert not environment.is_judged({name: "x"}, KEYS, URLS)


def test_the_usual_settings_are_judged() -> None:
    usual = {
        "TRIPTYCH_HOME": "/data/triptych",
        "TRIPTYCH_ALLOWED_DIRS": os.pathsep.join(["/pictures", "~/photos"]),
        "TRIPTYCH_BUDGET_USD": "20",
        "TRIPTYCH_CONFIRM_USD": "0.50",
        "TRIPTYCH_MODELS": "live",
        "TRIPTYCH_LINKS": "off",
        "TRIPTYCH_PROVIDER": "atlas",
        "TRIPTYCH_LOG_LEVEL": "info",
        "ATLASCLOUD_API_KEY": "sk-abc",
        "ARK_BASE_URL": "https://ark.ap-southeast.bytepluses.com/api/v3",
        "ATLASCLOUD_BASE_URL": "http://127.0.0.1:8080",
    }
    if os.name == "posix":
        assert environment.is_judged(usual, KEYS, URLS)


@given(
    st.fixed_dictionaries(
        {},
        optional={
            "TRIPTYCH_HOME": st.sampled_from(["/a/b", "/a/../b/", "~/x", "rel", " "]),
            "XDG_DATA_HOME": st.sampled_from(["/xdg", "relative", ""]),
            "HOME": st.sampled_from(["/home/me", "", "relative"]),
        },
    )
)
@pytest.mark.skipif(os.name != "posix", reason="Windows asks the system")
def test_the_home_directory_is_that_of_the_server(environ: dict[str, str]) -> None:
    with mock.patch.dict(os.environ, environ):
        for name in {"TRIPTYCH_HOME", "XDG_DATA_HOME", "HOME"} - environ.keys():
            os.environ.pop(name, None)
        found = environment.home(os.environ)
        if found is not None:
            assert os.path.normpath(found) == os.path.normpath(settings.read(os.environ).setup.home)


def test_the_directory_of_the_machine_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TRIPTYCH_HOME")
    found = environment.home(os.environ)
    assert found is not None and Path(found) == settings.read(os.environ).setup.home


def test_providers_are_usable_with_a_key_or_without_need_of_one() -> None:
    assert environment.usable({"ARK_API_KEY": "x", "ATLASCLOUD_API_KEY": " "}, KEYS) == ["ark", "draft"]
