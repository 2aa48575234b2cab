"""The thin start's reading of the environment: where the database is, and whether it can judge the settings.

Rules: a setting that this module does not judge, or that the real server would refuse, starts the real server at once.
"""

from __future__ import annotations

import os
import sys

TYPE_CHECKING = False  # importing `typing` costs a start
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

LOOPBACK = ("127.0.0.1", "localhost")
"""The names of `providers.url_safety` that a URL has without brackets."""


def is_judged(environ: Mapping[str, str], providers: Mapping[str, str], urls: frozenset[str]) -> bool:
    """Return whether the real server accepts these settings, and gives the snapshot's answers with them.

    `providers` are names with the variables of their keys, `urls` the variables of base URLs.
    """
    keys = frozenset(providers.values())
    for name, value in environ.items():
        text = value.strip()
        if name.startswith("OTEL_"):
            return False
        if not text:
            continue
        if name in keys:
            judged = _is_key(text)
        elif name in urls:
            judged = _is_url(text)
        elif name == "TRIPTYCH_PROVIDER":
            judged = text in providers
        elif name.startswith("TRIPTYCH_"):
            judged = name in JUDGED and JUDGED[name](text)
        else:
            continue
        if not judged:
            return False
    return True


def usable(environ: Mapping[str, str], providers: Mapping[str, str]) -> list[str]:
    """Return the providers that need no key, or have one."""
    return [name for name, key in providers.items() if not key or environ.get(key, "").strip()]


def home(environ: Mapping[str, str]) -> str | None:
    """Return the directory with the database, as `settings.read` and platformdirs find it; None if that is unclear."""
    path = os.path
    named = environ.get("TRIPTYCH_HOME", "").strip()
    if named:
        return path.abspath(path.expanduser(named)) if _is_path(named) else None
    if sys.platform == "win32":
        return _local_app_data(environ)
    if environ.get("ANDROID_DATA") or hasattr(sys, "getandroidapilevel"):
        return None
    base = environ.get("XDG_DATA_HOME", "")
    if not path.isabs(base):
        user = environ.get("HOME", "")
        if not path.isabs(user):
            return None
        base = path.join(user, "Library/Application Support" if sys.platform == "darwin" else ".local/share")
    return path.join(base, "triptych")


def _local_app_data(environ: Mapping[str, str]) -> str | None:
    if environ.get("WIN_PD_OVERRIDE_LOCAL_APPDATA"):
        return None
    import ctypes

    found = ctypes.create_unicode_buffer(1024)
    shell = ctypes.windll.shell32  # type: ignore[attr-defined,unused-ignore]
    if shell.SHGetFolderPathW(None, 0x1C, None, 0, found):  # CSIDL_LOCAL_APPDATA
        return None
    return os.path.join(found.value, "triptych")


def _is_key(text: str) -> bool:
    return text.isascii() and text.isprintable() and " " not in text


def _is_url(text: str) -> bool:
    """Return whether a URL is https, or of this machine, in a form without anything special."""
    scheme, _, rest = text.partition("://")
    site, _, path = rest.partition("/")
    host, colon, port = site.partition(":")
    labels = host.split(".")
    return (
        (scheme == "https" or (scheme == "http" and host in LOOPBACK))
        and "--" not in host
        and all(_is_word(label, "-") and len(label) < 64 for label in labels)
        and (not colon or (_is_word(port) and port.isdecimal() and 0 < int(port) < 65536))
        and (not path or _is_word(path, "-_./"))
        and (host in LOOPBACK or not labels[-1][0].isdecimal())
    )


def _is_word(text: str, also: str = "") -> bool:
    """Return whether a text has only ASCII letters and digits, and these characters inside."""
    return (
        text.isascii()
        and text[:1].isalnum()
        and text[-1:].isalnum()
        and text.translate(dict.fromkeys(map(ord, also))).isalnum()
    )


def _is_path(text: str) -> bool:
    """Return whether a path is absolute, or in the user's own home directory."""
    return text.isprintable() and ".." not in text and (os.path.isabs(text) or (text == "~" or text.startswith("~/")))


def _is_paths(text: str) -> bool:
    return all(_is_path(one.strip()) for one in text.split(os.pathsep) if one.strip())


def _is_amount(text: str) -> bool:
    whole, _, rest = text.removeprefix("$").partition(".")
    digits = whole + rest
    return text == "none" or (digits.isascii() and digits.isdecimal() and bool(whole) and len(digits) < 20)


def _is_switch(text: str) -> bool:
    return text in ("on", "off")


JUDGED: dict[str, Callable[[str], bool]] = {
    "TRIPTYCH_HOME": _is_path,
    "TRIPTYCH_ALLOWED_DIRS": _is_paths,
    "TRIPTYCH_BUDGET_USD": _is_amount,
    "TRIPTYCH_OWNER_BUDGET_USD": _is_amount,
    "TRIPTYCH_CONFIRM_USD": _is_amount,
    "TRIPTYCH_LINKS": _is_switch,
    "TRIPTYCH_MODELS": lambda text: text in ("live", "builtin"),
    "TRIPTYCH_LOG_LEVEL": lambda _: True,
    "TRIPTYCH_LOG_FORMAT": lambda _: True,
}
