"""Errors of a use-case as errors of the protocol, for every request but a tool call. Must not know the requests."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

import mcp_types as types
from mcp.shared.exceptions import MCPError

from triptych.core import errors
from triptych.core.text import line

logger = logging.getLogger(__name__)

FAILED = "Triptych failed; the server's log (stderr) has details."


@contextmanager
def as_protocol_errors(what: str, uri: str | None = None) -> Iterator[None]:
    """Raise each error inside the block as an error of the protocol; an unexpected one is logged, not quoted.

    `what` names the request in the log. The SDK would send the text of any other exception to the client.
    """
    try:
        yield
    except MCPError:
        raise
    except errors.BadRequest as error:
        data = None if uri is None else {"uri": line(uri, 500)}
        raise MCPError(types.INVALID_PARAMS, error.message, data) from error
    except errors.TriptychError as error:
        raise MCPError(types.INTERNAL_ERROR, error.message) from error
    except Exception as error:
        logger.error("%s failed", errors.quoted(what, 120), exc_info=error)
        raise MCPError(types.INTERNAL_ERROR, FAILED) from error
