"""Claims about what the environment says, and what is said when it cannot be right."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path

import pytest

from triptych import __main__ as main
from triptych import logs
from triptych.core import errors
from triptych.providers import load, names
from triptych.settings import read as read_settings

KEY = "sk-a-secret-of-ours"
KNOWN = [name for name in names() if load(name).key_env]
HOSTED = sorted(KNOWN, key=lambda name: (load(name).rank, name))


def key_env(name: str) -> str:
    variable = load(name).key_env
    assert variable
    return variable


BASES = [(name, base, url.env) for name in HOSTED for base, url in load(name).base_urls.items()]


# -- the provider


def test_with_no_key_the_offline_engine_is_the_default() -> None:
    setup = read_settings({}).setup
    assert setup.default_provider == "draft"
    assert setup.accounts["draft"].usable
    assert not any(setup.accounts[name].usable for name in HOSTED)


def test_the_default_is_the_preferred_provider_with_a_key() -> None:
    environ = {key_env(name): KEY for name in HOSTED}
    for name in HOSTED:
        assert read_settings(environ).setup.default_provider == name
        del environ[key_env(name)]
    assert read_settings(environ).setup.default_provider == "draft"


def test_every_provider_has_an_account_in_order_of_preference() -> None:
    accounts = list(read_settings({}).setup.accounts)
    assert sorted(accounts) == sorted(names())
    assert accounts[: len(HOSTED)] == HOSTED


@pytest.mark.parametrize("named", ["draft", " DRAFT "])
def test_a_named_provider_wins_over_a_key(named: str) -> None:
    environ = {"TRIPTYCH_PROVIDER": named, key_env("atlas"): KEY}
    assert read_settings(environ).setup.default_provider == "draft"


def test_a_named_provider_without_a_key_stays_the_default() -> None:
    setup = read_settings({"TRIPTYCH_PROVIDER": "atlas"}).setup
    assert setup.default_provider == "atlas"
    assert setup.accounts["atlas"].why_not == "set ATLASCLOUD_API_KEY"


def test_an_unknown_provider_is_refused_with_the_known_ones() -> None:
    with pytest.raises(errors.BadRequest, match=r"TRIPTYCH_PROVIDER.*atlas.*draft"):
        read_settings({"TRIPTYCH_PROVIDER": "dall-e"})


@pytest.mark.parametrize("blank", ["", "   "])
def test_a_blank_variable_is_as_good_as_none(blank: str) -> None:
    everything = [f"TRIPTYCH_{name}" for name in ("HOME", "PROVIDER", "ALLOWED_DIRS", "BUDGET_USD", "CONFIRM_USD")]
    everything += ["TRIPTYCH_AUTH_TOKEN", "TRIPTYCH_LOG_LEVEL", *(key_env(name) for name in HOSTED)]
    everything += [variable for _, _, variable in BASES]
    assert read_settings(dict.fromkeys(everything, blank)) == read_settings({})


# -- keys and where they go


def test_no_key_or_token_shows_in_what_the_settings_print() -> None:
    environ = {key_env(name): f"{KEY}-{name}" for name in HOSTED} | {"TRIPTYCH_AUTH_TOKEN": KEY}
    settings = read_settings(environ)
    assert KEY not in f"{settings!r} {settings}"
    key = settings.setup.accounts["atlas"].key
    assert key
    assert key.get_secret_value() == f"{KEY}-atlas"


@pytest.mark.parametrize(
    ("value", "tokens"),
    [
        (KEY, [KEY]),
        (f"  {KEY}\n", [KEY]),
        (f"{KEY},{KEY}-2", [KEY, f"{KEY}-2"]),
        (f"{KEY} {KEY}-2\n\t{KEY}-3", [KEY, f"{KEY}-2", f"{KEY}-3"]),
        (f", {KEY} ,, {KEY}-2,", [KEY, f"{KEY}-2"]),
        (f"{KEY},{KEY}", [KEY]),
        ("${TRIPTYCH_AUTH_TOKEN}", []),
        ("", []),
    ],
)
def test_tokens_stand_between_commas_or_spaces(value: str, tokens: list[str]) -> None:
    read = read_settings({"TRIPTYCH_AUTH_TOKEN": value}, remote=True).auth_tokens
    assert [token.get_secret_value() for token in read] == tokens


@pytest.mark.parametrize(
    ("value", "says"),
    [
        ("fifteen-letters", "the token has 15"),
        (f"{KEY},short-secret", "token 2 of 2 has 12"),
        (f"a long secret of words {KEY}", "token 1 of 6 has 1"),
        (" , ", "the token has 0"),
        ("sécret-sécret-sécret", "ASCII"),
    ],
)
def test_a_guessable_or_unsendable_token_is_refused_unshown(value: str, says: str) -> None:
    with pytest.raises(errors.BadRequest, match=r"TRIPTYCH_AUTH_TOKEN.*16 ASCII.*token_urlsafe") as refused:
        read_settings({"TRIPTYCH_AUTH_TOKEN": value})
    assert says in refused.value.message and "cret" not in refused.value.message.replace("secrets", "")


def test_a_line_break_after_a_key_is_dropped() -> None:
    key = read_settings({key_env("atlas"): f" {KEY}\n"}).setup.accounts["atlas"].key
    assert key
    assert key.get_secret_value() == KEY


def test_a_malformed_key_is_refused_by_variable_and_unshown() -> None:
    with pytest.raises(errors.BadRequest, match=key_env("atlas")) as refused:
        read_settings({key_env("atlas"): f"{KEY}\n{KEY}"})
    assert KEY not in refused.value.message


@pytest.mark.parametrize(("name", "base", "variable"), BASES)
def test_every_base_url_has_a_variable_that_moves_it(name: str, base: str, variable: str) -> None:
    moved = read_settings({variable: "https://proxy.example/v9/"}).setup.accounts[name]
    assert moved.base_urls[base] == "https://proxy.example/v9"
    assert read_settings({}).setup.accounts[name].base_urls[base] == load(name).base_urls[base].default
    assert read_settings({variable: "http://127.0.0.1:8901"}).setup.accounts[name].loopback_origins()


@pytest.mark.parametrize(("name", "base", "variable"), BASES)
@pytest.mark.parametrize("url", ["http://proxy.example", "http://10.0.0.1:80", "proxy.example", "https://[::1"])
def test_a_base_url_unsafe_for_the_key_is_refused(name: str, base: str, variable: str, url: str) -> None:
    with pytest.raises(errors.BadRequest, match=variable):
        read_settings({variable: url})


# -- money


@pytest.mark.parametrize(
    ("text", "budget"),
    [
        ("", Decimal(10)),
        ("5", Decimal(5)),
        ("$2.50", Decimal("2.50")),
        ("0", Decimal(0)),
        ("none", None),
        ("NONE", None),
    ],
)
def test_a_budget_is_an_amount_or_none(text: str, budget: Decimal | None) -> None:
    assert read_settings({"TRIPTYCH_BUDGET_USD": text}).setup.budget_usd == budget


@pytest.mark.parametrize("text", ["lots", "-1", "nan", "snan", "inf", "-inf", "5 EUR", "1,50", "0x10"])
@pytest.mark.parametrize("variable", ["TRIPTYCH_BUDGET_USD", "TRIPTYCH_CONFIRM_USD"])
def test_anything_else_is_refused_by_its_variable(variable: str, text: str) -> None:
    with pytest.raises(errors.BadRequest, match=variable):
        read_settings({variable: text})


@pytest.mark.parametrize(
    ("text", "confirm"), [("", Decimal(1)), ("0.25", Decimal("0.25")), ("0", Decimal(0)), ("none", Decimal("Infinity"))]
)
def test_a_confirmation_is_wanted_above_an_amount(text: str, confirm: Decimal) -> None:
    assert read_settings({"TRIPTYCH_CONFIRM_USD": text}).setup.confirm_usd == confirm


# -- directories


def test_the_working_and_the_listed_directories_are_allowed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    listed = os.pathsep.join([str(tmp_path / "a b"), "", " below ", "~"])
    allowed = read_settings({"TRIPTYCH_ALLOWED_DIRS": listed}).setup.allowed_dirs
    assert allowed == (tmp_path, tmp_path / "a b", tmp_path / "below", Path.home())


def test_a_remote_caller_may_use_only_those_listed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert read_settings({}, remote=True).setup.allowed_dirs == ()
    environ = {"TRIPTYCH_ALLOWED_DIRS": str(tmp_path / "shared")}
    assert read_settings(environ, remote=True).setup.allowed_dirs == (tmp_path / "shared",)


def test_a_server_started_in_the_root_does_not_allow_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path.anchor)
    assert read_settings({}).setup.allowed_dirs == ()
    assert read_settings({"TRIPTYCH_ALLOWED_DIRS": str(tmp_path)}).setup.allowed_dirs == (tmp_path,)


def test_a_working_directory_that_was_removed_opens_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def gone() -> Path:
        raise FileNotFoundError(2, "No such file or directory")

    monkeypatch.setattr(Path, "cwd", gone)
    assert read_settings({}).setup.allowed_dirs == ()


@pytest.mark.parametrize("variable", ["TRIPTYCH_HOME", "TRIPTYCH_ALLOWED_DIRS"])
def test_an_unknown_users_home_is_refused_by_its_variable(variable: str) -> None:
    with pytest.raises(errors.BadRequest, match=variable):
        read_settings({variable: "~no-such-user-here/x"})


def test_the_home_is_the_setting_or_the_platforms_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert read_settings({"TRIPTYCH_HOME": "data"}).setup.home == tmp_path / "data"
    assert read_settings({"TRIPTYCH_HOME": "~/data"}).setup.home == Path.home() / "data"
    assert read_settings({}).setup.home.name == "triptych"
    assert not (tmp_path / "data").exists()


# -- logging


@pytest.mark.parametrize(
    ("text", "level"),
    [("", "WARNING"), ("debug", "DEBUG"), (" Info ", "INFO"), ("chatty", "WARNING"), ("10", "WARNING")],
)
def test_the_log_level_is_a_known_word_or_the_default(text: str, level: str) -> None:
    assert read_settings({"TRIPTYCH_LOG_LEVEL": text}).log_level == level


@pytest.fixture
def root_logger() -> Iterator[logging.Logger]:
    """Leave the root logger as it was, and close what was opened on it."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    root.handlers = []
    yield root
    root.handlers, root.level = handlers, level


@pytest.mark.usefixtures("root_logger")
def test_log_lines_go_to_stderr_never_to_stdout(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure("INFO")
    logging.getLogger("triptych.jobs.worker").info("a prediction moved")
    logging.getLogger("triptych.jobs.worker").debug("too quiet")
    said = capsys.readouterr()
    assert said.out == ""
    assert "a prediction moved" in said.err
    assert "too quiet" not in said.err
    assert all(handler.stream is sys.stderr for handler in logging.getLogger().handlers)  # type: ignore[attr-defined]


@pytest.mark.usefixtures("root_logger")
def test_signed_urls_are_not_logged_at_any_level(
    capsys: pytest.CaptureFixture[str],
) -> None:
    logs.configure("DEBUG")
    for name in ("httpx2", "httpcore2.http11"):
        logging.getLogger(name).info("GET https://cdn.example/a.png?signature=1")
    assert "signature" not in capsys.readouterr().err


# -- live models


def test_live_models_are_on_unless_switched_off() -> None:
    assert read_settings({}).setup.live_models
    assert read_settings({"TRIPTYCH_MODELS": " Live "}).setup.live_models
    assert not read_settings({"TRIPTYCH_MODELS": "builtin"}).setup.live_models
    with pytest.raises(errors.BadRequest, match=r'TRIPTYCH_MODELS must be live .* or builtin .*it is "all"'):
        read_settings({"TRIPTYCH_MODELS": "all"})


def test_a_secret_can_stand_in_a_file(tmp_path: Path) -> None:
    for name, text in (("key", "a-key-of-atlas\n"), ("token", "a-long-random-text")):
        (tmp_path / name).write_text(text)
    environ = {
        "ATLASCLOUD_API_KEY_FILE": str(tmp_path / "key"),
        "TRIPTYCH_AUTH_TOKEN_FILE": str(tmp_path / "token"),
        "TRIPTYCH_METRICS_TOKEN": "the-variable-itself-counts",
        "TRIPTYCH_METRICS_TOKEN_FILE": str(tmp_path / "token"),
        "AWS_SHARED_CREDENTIALS_FILE": str(tmp_path / "key"),
        "LOG_FILE": str(tmp_path / "nowhere"),
    }
    before = dict(environ)
    main.read_secret_files(environ)
    assert {name: value for name, value in environ.items() if name not in before} == {
        "ATLASCLOUD_API_KEY": "a-key-of-atlas",
        "TRIPTYCH_AUTH_TOKEN": "a-long-random-text",
    }


def test_an_unreadable_secret_file_ends_the_start(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main.read_secret_files({"TRIPTYCH_AUTH_TOKEN_FILE": str(tmp_path / "gone")})
    assert ended.value.code == 2
    assert "TRIPTYCH_AUTH_TOKEN_FILE" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("environ", "on"),
    [
        ({}, False),
        ({"TRIPTYCH_METRICS": "on"}, True),
        ({"TRIPTYCH_METRICS_TOKEN": "a-long-random-text"}, True),
        ({"TRIPTYCH_METRICS": "off", "TRIPTYCH_METRICS_TOKEN": "a-long-random-text"}, False),
    ],
)
def test_metrics_are_on_with_their_setting_or_their_token(environ: dict[str, str], on: bool) -> None:
    assert read_settings(environ).metrics is on


def test_a_short_metrics_token_is_refused() -> None:
    with pytest.raises(errors.BadRequest, match="16 ASCII"):
        read_settings({"TRIPTYCH_METRICS_TOKEN": "short"})


@pytest.mark.parametrize(("text", "shape"), [("json", "json"), (" JSON ", "json"), ("", "text"), ("xml", "text")])
def test_the_log_format_is_text_or_json(text: str, shape: str) -> None:
    assert read_settings({"TRIPTYCH_LOG_FORMAT": text}).log_format == shape


# -- the object store

BUCKET = {
    "TRIPTYCH_OBJECTS_URL": "s3://my-bucket/of/us/",
    "AWS_ACCESS_KEY_ID": "AKID",
    "AWS_SECRET_ACCESS_KEY": "a-secret-of-the-bucket",
    "AWS_DEFAULT_REGION": "eu-west-1",
    "AWS_REGION": "eu-north-1",
}


def test_images_are_files_unless_a_bucket_is_named() -> None:
    assert read_settings({}).setup.objects is None
    place = read_settings(BUCKET).setup.objects
    assert place and (place.url, place.allow_http) == ("s3://my-bucket/of/us", False)
    assert place.options == {
        "access_key_id": "AKID",
        "secret_access_key": "a-secret-of-the-bucket",
        "region": "eu-north-1",
    }
    assert "a-secret-of-the-bucket" not in repr(read_settings(BUCKET))


@pytest.mark.parametrize(
    "url", ["my-bucket", "s3://", "https://b.s3.amazonaws.com", "s3://key:word@bucket/x", "s3://b/x?y=1", "file:///x"]
)
def test_a_place_that_is_no_bucket_is_refused_without_its_password(url: str) -> None:
    with pytest.raises(errors.BadRequest, match="TRIPTYCH_OBJECTS_URL must be s3://") as refused:
        read_settings({"TRIPTYCH_OBJECTS_URL": url})
    assert "word" not in refused.value.message.replace("passwords", "")


@pytest.mark.parametrize("name", ["AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT", "AZURE_STORAGE_ENDPOINT"])
def test_plain_http_goes_to_this_machine_alone(name: str) -> None:
    bucket = BUCKET | ({"TRIPTYCH_OBJECTS_URL": "az://images"} if name.startswith("AZURE") else {})
    for endpoint in ("http://127.0.0.1:9000", "http://localhost:9000", "http://[::1]:9000"):
        place = read_settings({**bucket, name: endpoint}).setup.objects
        assert place and place.allow_http
    place = read_settings({**bucket, name: "https://minio.example.com"}).setup.objects
    assert place and not place.allow_http
    wrong = ("http://10.0.0.7:9000", "http://minio:9000", "ftp://127.0.0.1", "minio:9000", "https://me:word@minio")
    for endpoint in wrong:
        with pytest.raises(errors.BadRequest, match=f"{name} is .* must be https://") as refused:
            read_settings({**bucket, name: endpoint})
        assert "word" not in refused.value.message


def test_nothing_is_imported_for_a_bucket_that_is_not_set() -> None:
    code = (
        "import sys, triptych.settings, triptych.server.app, triptych.jobs.service; "
        "print([name for name in ('obstore', 'psycopg') if name in sys.modules])"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert out.strip() == "[]"


@pytest.mark.usefixtures("ordinary_start")
def test_a_worker_without_probes_does_not_load_the_protocol(tmp_path: Path) -> None:
    code = (
        "import os, sys, anyio\n"
        "from triptych import settings\n"
        "from triptych.server import worker_process\n"
        "async def main():\n"
        "    async with anyio.create_task_group() as tasks:\n"
        "        async def work():\n"
        "            await worker_process.work(settings.read(os.environ, remote=True), tasks.cancel_scope.cancel)\n"
        "        tasks.start_soon(work)\n"
        "anyio.run(main)\n"
        "print([name for name in ('mcp', 'mcp_types', 'uvicorn') if name in sys.modules])"
    )
    env = {**os.environ, "TRIPTYCH_HOME": str(tmp_path)}
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=env).stdout
    assert out.strip() == "[]"
