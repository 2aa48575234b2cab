"""A check of an error's text for the operator: the message to clients leaves hosts, users and paths out."""

from __future__ import annotations

import re
from collections.abc import Callable

from triptych.core import errors


def tells_operator(words: str) -> Callable[[errors.TriptychError], bool]:
    """Return a check for `pytest.raises`: the operator is told these words (a regular expression)."""

    def check(error: errors.TriptychError) -> bool:
        assert re.search(words, error.for_operator), error.for_operator
        return True

    return check
