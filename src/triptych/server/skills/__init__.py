"""The skills: a procedure with exact calls for each common task, as Agent Skills.

A skill's text stands once, in a file beside this one. It is served as MCP prompts (`prompts`), by the skills extension
of MCP, and as the skills of the plugin (`scripts/skills` writes `plugin/skills`). `{wait}`, `{failed}` and `{lost}` in
a file stand for the sentences that several procedures share.

Rules: calls are in backquotes and are valid Python with the tools' own argument names. Words in capitals such as FOLDER
and JOB are values: the user's, or results of earlier calls. Every step that costs money says so.

The extension (`io.modelcontextprotocol/skills`, final since 2026-09): `skills/list` and `skills/get` return entries
with digests, `resources/read` the files. It needs no declaration of the client. Nothing of it is in the lists of a
client that does not declare it.
"""

from __future__ import annotations

import functools
import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mcp_types as types
from mcp.server.context import ServerRequestContext
from mcp.shared.exceptions import MCPError
from mcp_types.version import MODERN_PROTOCOL_VERSIONS

from triptych.core import errors

SKILLS = "io.modelcontextprotocol/skills"
SCHEME = "skill://"

SHARED = {
    "wait": "If its status is queued or running: `get_status(job_id=JOB, wait_s=50)` until it is neither. Look at the "
    "result before you judge it: `view_images(images=[JOB])`.",
    "failed": "If its status is partial, the error of each lane that failed says why. Once that is mended: "
    '`edit_chain(images=[JOB + "/failed"])` redoes these lanes alone and pays for nothing else. Their images are in '
    "that new job: save it too.",
    "lost": "If a paid call returned no answer, repeat it word for word: it returns its job and pays nothing.",
}


@dataclass(frozen=True, slots=True)
class Skill:
    """One skill: its name, when to use it, and the procedure."""

    name: str
    description: str
    body: str

    @property
    def uri(self) -> str:
        return f"{SCHEME}{self.name}/SKILL.md"

    @property
    def text(self) -> str:
        """The whole SKILL.md."""
        return f"---\nname: {self.name}\ndescription: {self.description}\n---\n\n{self.body}"

    def entry(self) -> dict[str, Any]:
        """Return the skill as the extension describes it."""
        raw = self.text.encode()
        digest = f"sha256:{hashlib.sha256(raw).hexdigest()}"
        return {
            "uri": self.uri,
            "frontmatter": {"name": self.name, "description": self.description},
            "resources": [{"uri": self.uri, "digest": digest, "size": len(raw)}],
        }


@functools.cache
def skills() -> dict[str, Skill]:
    """Return every skill by its name."""
    read = [_read(path) for path in sorted(Path(__file__).parent.glob("*.md"))]
    return {skill.name: skill for skill in read}


def _read(path: Path) -> Skill:
    description, _, body = path.read_text("utf-8").replace("\r\n", "\n").partition("\n\n")
    for name, words in SHARED.items():
        body = body.replace(f"{{{name}}}", words)
    return Skill(path.stem, " ".join(description.split()), body)


# -- the extension


def listed(ctx: ServerRequestContext[Any, Any]) -> dict[str, Any]:
    """Return the result of `skills/list`."""
    return {"skills": [skill.entry() for skill in skills().values()], **_caching(ctx)}


def get(ctx: ServerRequestContext[Any, Any], uri: str) -> dict[str, Any]:
    """Return the result of `skills/get`.

    Raises: `MCPError` (invalid params) if no skill has this URI.
    """
    return {"skill": _skill(uri).entry(), **_caching(ctx)}


def read(uri: str) -> types.ReadResourceResult:
    """Return the SKILL.md with this URI.

    Raises: `MCPError` (invalid params) if no skill has this URI.
    """
    skill = _skill(uri)
    return types.ReadResourceResult(
        contents=[types.TextResourceContents(uri=skill.uri, mime_type="text/markdown", text=skill.text)],
        ttl_ms=3_600_000,
        cache_scope="public",
    )


def is_declared_by(ctx: ServerRequestContext[Any, Any]) -> bool:
    """Return whether the client declares the extension."""
    capabilities = ctx.session.client_capabilities
    return capabilities is not None and SKILLS in (capabilities.extensions or {})


def resources() -> list[types.Resource]:
    """Return the skills as `resources/list` shows them."""
    return [
        types.Resource(uri=skill.uri, name=skill.name, description=skill.description, mime_type="text/markdown")
        for skill in skills().values()
    ]


def _caching(ctx: ServerRequestContext[Any, Any]) -> dict[str, Any]:
    """Return how long a result is valid; earlier revisions of the protocol have no such fields."""
    modern = ctx.session.protocol_version in MODERN_PROTOCOL_VERSIONS
    return {"ttlMs": 3_600_000, "cacheScope": "public"} if modern else {}


def _skill(uri: str) -> Skill:
    found = next((skill for skill in skills().values() if skill.uri == uri), None)
    if found is None:
        message = f"There is no skill {errors.quoted(uri, 120)}. Skills: {', '.join(s.uri for s in skills().values())}."
        raise MCPError(types.INVALID_PARAMS, message, {"uri": uri[:500]})
    return found
