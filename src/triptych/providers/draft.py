"""The provider `draft`: the offline preview engine, which has its own package."""

from __future__ import annotations

from triptych.providers.preview.provider import PROVIDER

__all__ = ["PROVIDER"]
