"""How money and time leave in JSON.

Money is a JSON number of US dollars with at most six decimals; a time is ISO 8601 in UTC.
"""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from typing import Annotated

from pydantic import PlainSerializer

from triptych.core.errors import six_decimals

Usd = Annotated[Decimal, PlainSerializer(lambda usd: float(six_decimals(usd)), return_type=float, when_used="json")]
Utc = Annotated[
    datetime, PlainSerializer(lambda t: t.strftime("%Y-%m-%dT%H:%M:%SZ"), return_type=str, when_used="json")
]
