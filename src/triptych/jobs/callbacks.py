"""The URLs at which providers report the end of a prediction. Pure.

    https://images.example.com/webhooks/atlas/job_1a2b3c4d-0-0.8f14e45f-ceea-467f-a0e6-1f7c1c1d3b0a

A call is a hint and nothing more (`server.webhooks`). The URL ends with the prediction's random `client_id`, so that
nobody guesses it.
"""

from __future__ import annotations

import ipaddress
from urllib.parse import urlsplit

from triptych.core.models import Prediction
from triptych.providers.accounts import Account
from triptych.providers.url_safety import LOOPBACK

ROUTE = "/webhooks"


def site_for(public_url: str | None, base_url: str) -> str | None:
    """Return the site that the provider at a base URL can call; None without one.

    Providers call https on public hosts. A provider on loopback (an emulator) calls loopback alone.
    """
    if not public_url:
        return None
    site = urlsplit(public_url)
    host = site.hostname or ""
    if host in LOOPBACK:
        return public_url if (urlsplit(base_url).hostname or "") in LOOPBACK else None
    return public_url if site.scheme == "https" and _is_public(host) else None


def _is_public(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_global
    except ValueError:
        return "." in host and not host.endswith((".local", ".internal", ".localhost", ".lan", ".home.arpa"))


def url_of(account: Account, prediction: Prediction) -> str | None:
    """Return the URL for one prediction; None if its provider does not call back.

    It is the same each time, so that a submit can be repeated word for word.
    """
    if not (account.callback_site and account.provider.calls_back):
        return None
    return f"{account.callback_site}{ROUTE}/{account.provider.name}/{prediction.id}.{prediction.client_id}"
