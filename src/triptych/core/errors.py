"""The errors of Triptych, and how to tell them apart.

    TriptychError
    ├── BadRequest            the caller can mend it: nothing was sent, nothing was paid
    │   ├── UnknownHandle         no image under that handle
    │   ├── UnreadableImage       a path or URL that cannot be read, or is not an image
    │   ├── StillReading          the images of the call are not all read yet; reading goes on
    │   ├── NotAllowed            a path or an address that is not allowed
    │   ├── UnknownModel          no such model or provider
    │   ├── OutOfLimits           a count, size, format or prompt that the model does not take
    │   ├── NoKey                 the provider's key variable is not set
    │   ├── NoScope               the caller signed in without the right to spend
    │   └── OverBudget            the quote is above a cap, or wants a confirmation
    ├── Refused               the provider refused before accepting: nothing was paid
    │   ├── KeyRejected           401 or 403
    │   ├── NoFunds               402: the provider's balance is too low
    │   ├── NotOffered            404: the provider does not have the model, or not for this account
    │   ├── NoRoom                an upload: the provider keeps no more files for this account
    │   └── RateLimited           429, or busy: the same request may be sent again later
    ├── Failed                the provider accepted, then decided against it
    │   └── Moderated             its content filter decided against it
    ├── Outage                no usable response: time-outs, 5xx, HTML, broken JSON
    │   ├── NotStored             our disk or object store did not take an image
    │   ├── NotSent               the request surely did not arrive
    │   ├── AnswerLost            the request may have arrived; its response was lost
    │   ├── Unclear               a list was read and does not show whether it has the request
    │   └── Unusable              the database cannot be used until a person mends it
    │       └── Outdated              a newer Triptych has changed the database
    └── Uncertain             a paid request may have been accepted and was not found again

Rules: `message` is safe to show to any client (bounded, one line, no keys; a provider's text in it is quoted data).
`for_operator` may add the hosts, users and paths of the server: it goes to the log, the command line and the person at
the machine. `kind` is a stable word for programs. `retryable` says whether the same call may help later. Nothing here
does any I/O.
"""

from __future__ import annotations

from decimal import ROUND_CEILING, Decimal
from typing import ClassVar

from triptych.core.text import line

MESSAGE_LIMIT_CHARS = 900
"""A refusal has under 1,000 characters when it reaches the assistant, however long the provider's text is."""


def quoted(text: object, limit_chars: int = 300) -> str:
    """Return a provider's text as data: one line, in quotes, bounded, without control characters or angle brackets."""
    shown = line(str(text), limit_chars).replace("<", "‹").replace(">", "›").replace('"', "'")
    return f'"{shown}"'


def format_usd(usd: Decimal) -> str:
    """Return an amount in dollars for people: no exponent, no trailing zeros, at most six decimals, rounded up.

    Rounded up, so that an amount from a refusal is high enough as a cap.
    """
    if not usd.is_finite():
        return "none"
    exponent = usd.as_tuple().exponent
    assert isinstance(exponent, int)
    text = f"{six_decimals(usd) if exponent < -6 else usd:f}"
    return (text.rstrip("0").rstrip(".") if "." in text else text) or "0"


def six_decimals(usd: Decimal) -> Decimal:
    """Return an amount with at most six decimals, rounded up; an infinite one unchanged."""
    exponent = usd.as_tuple().exponent
    return usd.quantize(_MICRO, ROUND_CEILING) if isinstance(exponent, int) and exponent < -6 else usd


_MICRO = Decimal("0.000001")


class TriptychError(Exception):
    """The root. Catching it catches every error that Triptych raises on purpose."""

    kind: ClassVar[str] = "internal"
    retryable: ClassVar[bool] = False

    def __init__(
        self,
        message: str,
        *,
        for_operator: str | None = None,
        request_id: str | None = None,
        retry_after_s: float | None = None,
    ) -> None:
        """`for_operator` is None if the message says all; `retry_after_s` is the provider's Retry-After."""
        self.message = line(message, MESSAGE_LIMIT_CHARS)
        self.for_operator = self.message if for_operator is None else line(for_operator, MESSAGE_LIMIT_CHARS)
        super().__init__(self.message)
        self.request_id = request_id
        self.retry_after_s = retry_after_s

    def locate(self, place: str) -> None:
        """Put the place of the mistake, such as a row of a table, before the message, once."""
        if not self.message.startswith(f"{place}: "):
            self.message = line(f"{place}: {self.message}", MESSAGE_LIMIT_CHARS)
            self.for_operator = line(f"{place}: {self.for_operator}", MESSAGE_LIMIT_CHARS)
            self.args = (self.message,)


class BadRequest(TriptychError):
    """The caller can mend it. Nothing was sent and nothing was paid."""

    kind = "bad_request"


class UnknownHandle(BadRequest):
    kind = "unknown_handle"


class UnreadableImage(BadRequest):
    kind = "unreadable_image"


class StillReading(BadRequest):
    """The images of the call are not all read yet; reading goes on, and the same call uses what was read."""

    kind = "reading"
    retryable = True


class NotAllowed(BadRequest):
    kind = "not_allowed"


class UnknownModel(BadRequest):
    kind = "unknown_model"


class OutOfLimits(BadRequest):
    kind = "out_of_limits"


class NoKey(BadRequest):
    kind = "no_key"


class NoScope(BadRequest):
    """The caller signed in without the right to spend."""

    kind = "no_scope"


class OverBudget(BadRequest):
    """Above a cap, or unconfirmed. `confirm_usd` is the quote to confirm, where only the confirmation is missing.

    `question` is then the text to show to the user: cost, provider, model, images.
    """

    kind = "over_budget"

    def __init__(self, message: str, *, confirm_usd: Decimal | None = None, question: str = "") -> None:
        super().__init__(message)
        self.confirm_usd = confirm_usd
        self.question = line(question, MESSAGE_LIMIT_CHARS)


class Refused(TriptychError):
    """The provider refused before accepting. Nothing was paid."""

    kind = "refused"


class KeyRejected(Refused):
    kind = "key_rejected"


class NoFunds(Refused):
    kind = "no_funds"


class NotOffered(Refused):
    kind = "not_offered"


class NoRoom(Refused):
    """The provider keeps no more files for this account."""

    kind = "no_room"


class RateLimited(Refused):
    """Not accepted now; the same request may be sent later."""

    kind = "rate_limited"
    retryable = True


class Failed(TriptychError):
    """The provider accepted the request, then decided against it."""

    kind = "failed"


class Moderated(Failed):
    kind = "moderated"


class Outage(TriptychError):
    """No usable response."""

    kind = "outage"
    retryable = True


class NotStored(Outage):
    """Our own disk or object store did not take an image; what it came from still has it."""

    kind = "not_stored"


class NotSent(Outage):
    """The request surely did not arrive: sending it again cannot pay twice."""

    kind = "not_sent"


class AnswerLost(Outage):
    """The request may have arrived; nothing shows whether it did."""

    kind = "answer_lost"


class Unclear(Outage):
    """A provider's list was read and does not show whether an entry is our request."""

    kind = "unclear"


class Unusable(Outage):
    """The database cannot be used until a person mends it; `found` and `mend` tell the operator what and how."""

    kind = "unusable"
    retryable = False
    _message = "The server's database cannot be used. Its operator has to mend it: the server's log says what is wrong."

    def __init__(self, found: str, mend: str) -> None:
        super().__init__(self._message, for_operator=f"{found} {mend}")
        self.found = found
        self.mend = mend


class Outdated(Unusable):
    """A newer Triptych has changed the database, and this version must not work on it."""

    kind = "outdated"
    _message = (
        "A newer Triptych has changed the database, and this server is too old for it. Restart it with the newer "
        "version; the server's log says more."
    )


class Uncertain(TriptychError):
    """A paid request may have been accepted and was not found again."""

    kind = "uncertain"
