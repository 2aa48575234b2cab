"""An identity provider on loopback: metadata, keys that rotate, introspection, and OAuth for clients that sign in.

A person signs in without being asked, as `person`, and gets every scope that the client asks for. Tokens for hostile
tests are made by `token`, whose arguments replace parts of a right one.
"""

from __future__ import annotations

import base64
import hashlib
import json
import secrets
import threading
import time
from collections import Counter
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl, unquote_plus, urlencode, urlsplit

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm

BOTH = "triptych:read triptych:spend"
SERVER_ID, SERVER_SECRET = "triptych server", "p&ssword=of:the+server"
"""The name and the password of the resource server for introspection; they need escaping."""


class Key:
    """A key pair, its algorithm and its id."""

    def __init__(self, algorithm: str, kid: str) -> None:
        self.algorithm, self.kid = algorithm, kid
        self.private: Any = _made(algorithm)

    def public(self) -> dict[str, Any]:
        kinds = {"R": RSAAlgorithm, "P": RSAAlgorithm, "E": OKPAlgorithm if self.algorithm == "EdDSA" else ECAlgorithm}
        described = kinds[self.algorithm[0]].to_jwk(self.private.public_key(), as_dict=True)
        return {**described, "kid": self.kid, "use": "sig", "alg": self.algorithm}


def _made(algorithm: str) -> Any:
    if algorithm == "EdDSA":
        return ed25519.Ed25519PrivateKey.generate()
    curves: dict[str, Any] = {"ES256": ec.SECP256R1, "ES384": ec.SECP384R1, "ES512": ec.SECP521R1}
    if algorithm in curves:
        return ec.generate_private_key(curves[algorithm]())
    return rsa.generate_private_key(65537, 2048)


class IdentityProvider:
    """The provider; use it as a context. `path` is the path of its issuer, `away` makes it answer 500.

    `asked` counts the requests by path, `paths` are the metadata addresses that it has.
    """

    def __init__(self, path: str = "", algorithm: str = "RS256") -> None:
        self.keys = [Key(algorithm, "key-1")]
        self.listed: list[dict[str, Any]] | None = None
        """What it gives out as its keys; None for its own."""
        self.person = "ann"
        self.away = False
        self.asked: Counter[str] = Counter()
        self.opaque: dict[str, dict[str, Any]] = {}
        """What introspection says of each opaque token."""
        self.metadata: dict[str, Any] = {}
        """Fields of the metadata that replace the right ones."""
        self.grants: list[str] = []
        """The scopes of the next sign-ins; after these a client gets all that it asks for."""
        self.authorized: list[dict[str, str]] = []
        """The parameters of each sign-in."""
        self._codes: dict[str, dict[str, str]] = {}
        self._clients: dict[str, dict[str, Any]] = {}
        provider = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                self._answer({})

            def do_POST(self) -> None:
                length = int(self.headers.get("content-length", 0))
                body = self.rfile.read(length).decode()
                is_json = "json" in self.headers.get("content-type", "")
                self._answer(json.loads(body) if is_json else dict(parse_qsl(body)))

            def _answer(self, form: dict[str, Any]) -> None:
                parts = urlsplit(self.path)
                query = dict(parse_qsl(parts.query))
                status, headers, body = provider.answer(parts.path, query, form, self.headers.get("authorization", ""))
                sent = json.dumps(body).encode() if body is not None else b""
                self.send_response(status)
                for name, value in {"Content-Type": "application/json", "Cache-Control": "no-store", **headers}.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(sent)))
                self.end_headers()
                self.wfile.write(sent)

            def log_message(self, format: str, *args: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.site = f"http://127.0.0.1:{self._server.server_address[1]}"
        self.issuer = self.site + path
        self.paths = {f"/.well-known/oauth-authorization-server{path.rstrip('/')}"}

    def __enter__(self) -> IdentityProvider:
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    # -- what the resource server asks

    def answer(
        self, path: str, query: Mapping[str, str], form: dict[str, Any], authorization: str
    ) -> tuple[int, dict[str, str], Any]:
        """Return status, headers and JSON of the answer to a request."""
        self.asked[path] += 1
        if self.away:
            return 500, {}, {"error": "server_error"}
        if path in self.paths:
            return 200, {}, self._metadata()
        if path == "/keys":
            keys = [key.public() for key in self.keys] if self.listed is None else self.listed
            return 200, {}, {"keys": keys}
        if path == "/introspect":
            return self._introspected(form, authorization)
        if path == "/register":
            return self._registered(form)
        if path == "/authorize":
            return self._signed_in(dict(query))
        if path == "/token":
            return self._exchanged(form, authorization)
        return 404, {}, {"error": "not_found"}

    def _metadata(self) -> dict[str, Any]:
        return {
            "issuer": self.issuer,
            "jwks_uri": f"{self.site}/keys",
            "introspection_endpoint": f"{self.site}/introspect",
            "authorization_endpoint": f"{self.site}/authorize",
            "token_endpoint": f"{self.site}/token",
            "registration_endpoint": f"{self.site}/register",
            "response_types_supported": ["code"],
            "grant_types_supported": ["authorization_code", "refresh_token"],
            "code_challenge_methods_supported": ["S256"],
            "token_endpoint_auth_methods_supported": ["none", "client_secret_basic", "client_secret_post"],
            "scopes_supported": BOTH.split(),
            "authorization_response_iss_parameter_supported": True,
            **self.metadata,
        }

    def _introspected(self, form: Mapping[str, str], authorization: str) -> tuple[int, dict[str, str], Any]:
        if _basic(authorization) != (SERVER_ID, SERVER_SECRET):
            return 401, {"WWW-Authenticate": "Basic"}, {"error": "invalid_client"}
        return 200, {}, self.opaque.get(form.get("token", ""), {"active": False})

    # -- what a client that signs in asks

    def _registered(self, form: Mapping[str, Any]) -> tuple[int, dict[str, str], Any]:
        client_id = secrets.token_hex(8)
        given = {**form, "client_id": client_id, "client_id_issued_at": int(time.time())}
        if form.get("token_endpoint_auth_method") not in (None, "none"):
            given |= {"client_secret": secrets.token_hex(16), "client_secret_expires_at": 0}
        self._clients[client_id] = given
        return 201, {}, given

    def register(self, client_id: str, **fields: Any) -> None:
        """Know a client that did not register itself."""
        self._clients[client_id] = {"client_id": client_id, **fields}

    def _signed_in(self, query: dict[str, str]) -> tuple[int, dict[str, str], Any]:
        client = self._clients.get(query.get("client_id", ""))
        target = query.get("redirect_uri", "")
        if not client or target not in client["redirect_uris"]:
            return 400, {}, {"error": "invalid_request"}
        self.authorized.append(query)
        code = secrets.token_urlsafe(24)
        self._codes[code] = query
        back = {"code": code, "state": query.get("state", ""), "iss": self.issuer}
        return 302, {"Location": f"{target}?{urlencode(back)}"}, None

    def _exchanged(self, form: dict[str, Any], authorization: str) -> tuple[int, dict[str, str], Any]:
        client_id, password = _basic(authorization) or (form.get("client_id", ""), form.get("client_secret"))
        client = self._clients.get(client_id)
        if not client or client.get("client_secret") not in (None, password):
            return 401, {}, {"error": "invalid_client"}
        asked = self._codes.pop(form.get("code", ""), None)
        challenge = hashlib.sha256(form.get("code_verifier", "").encode()).digest()
        if not asked or asked["code_challenge"] != base64.urlsafe_b64encode(challenge).rstrip(b"=").decode():
            return 400, {}, {"error": "invalid_grant"}
        if asked["redirect_uri"] != form.get("redirect_uri") or asked["client_id"] != client_id:
            return 400, {}, {"error": "invalid_grant"}
        scope = self.grants.pop(0) if self.grants else asked.get("scope", "")
        token = self.token(asked.get("resource", ""), scope=scope, sub=self.person)
        return 200, {}, {"access_token": token, "token_type": "Bearer", "expires_in": 600, "scope": scope}

    # -- tokens

    def token(
        self,
        audience: Any,
        *,
        key: Key | None = None,
        header: Mapping[str, Any] | None = None,
        algorithm: str | None = None,
        secret: Any = None,
        lives_s: int = 600,
        begins_s: int | None = None,
        **claims: Any,
    ) -> str:
        """Return an access token; a claim or a header given as None is left out.

        It ends in `lives_s`, and begins in `begins_s` if that is given.
        """
        key, now = key or self.keys[-1], int(time.time())
        right: dict[str, Any] = {"iss": self.issuer, "aud": audience, "sub": "ann", "scope": BOTH}
        right |= {"iat": now, "exp": now + lives_s}
        if begins_s is not None:
            right["nbf"] = now + begins_s
        body = {name: value for name, value in {**right, **claims}.items() if value is not None}
        head = {"kid": key.kid, "typ": "at+jwt", **(header or {})}
        head = {name: value for name, value in head.items() if value is not None}
        return jwt.encode(body, key.private if secret is None else secret, algorithm or key.algorithm, headers=head)

    def rotate(self) -> Key:
        """Sign with a new key from now on; the old one is gone."""
        self.keys = [Key(self.keys[0].algorithm, f"key-{secrets.token_hex(4)}")]
        return self.keys[0]


def handmade(header: Mapping[str, Any] | str, claims: Mapping[str, Any] | str, signature: bytes = b"") -> str:
    """Return a token of exactly these parts, whether they make sense or not."""
    texts = [part if isinstance(part, str) else json.dumps(part) for part in (header, claims)]
    return ".".join(_encoded(part) for part in (*(text.encode() for text in texts), signature))


def _encoded(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _basic(authorization: str) -> tuple[str, str] | None:
    if not authorization.startswith("Basic "):
        return None
    name, _, password = base64.b64decode(authorization.removeprefix("Basic ")).decode().partition(":")
    return unquote_plus(name), unquote_plus(password)
