"""Writes the secrets of compose.yaml that can be made by chance, into `secrets/`; existing files stay.

    python deploy/make_secrets.py

What is left to you: `atlascloud_key`, and the certificate for both names (`tls_certificate.pem`, `tls_key.pem`).
"""

from __future__ import annotations

import json
import secrets
import sys
from pathlib import Path

HERE = Path(__file__).parent / "secrets"
YOURS = ("atlascloud_key", "tls_certificate.pem", "tls_key.pem")


def main() -> None:
    """Write each missing file, and name the ones that are left."""
    password = kept("postgres_password", secrets.token_urlsafe(24))
    kept("database_url", f"postgresql://triptych:{password}@postgres:5432/triptych")
    key = kept("objects_secret", secrets.token_urlsafe(24))
    identity = {
        "name": "triptych",
        "credentials": [{"accessKey": "triptych", "secretKey": key}],
        "actions": [f"{action}:triptych" for action in ("Read", "Write", "List")],
    }
    kept("objects_keys.json", json.dumps({"identities": [identity]}))
    for name in ("auth_tokens", "metrics_token", "grafana_password"):
        kept(name, secrets.token_urlsafe(24))
    for name in YOURS:
        if not (HERE / name).exists():
            sys.stderr.write(f"still to put there: {HERE / name}\n")


def kept(name: str, text: str) -> str:
    """Return the text of a secret's file, which is written with `text` if it is missing."""
    path = HERE / name
    if not path.exists():
        path.touch(mode=0o644)  # in the container another user reads it; the directory is yours alone
        path.write_text(text, "utf-8")
    return path.read_text("utf-8")


if __name__ == "__main__":
    HERE.chmod(0o700)
    main()
