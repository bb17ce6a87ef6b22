"""The bypass token: how our own INVITE is known again when the filter criteria bring it back to us.

After the answer the original dialog identifier is dead, so a caller is handed to the served user by a *new* INVITE
towards the core.  The criteria of the served user match it again; without a mark the agent would be called instead of
the phone, for ever.  The token names the target and an expiry, and is signed; it is good for one pass.
"""

from __future__ import annotations

import base64
import hashlib
import hmac

import attrs

__all__ = ["BYPASS_HEADER", "BypassTokens"]

BYPASS_HEADER = "X-IMS-AS-Bypass"
TOKEN_LIFE_S = 60.0
"""Longer than any core takes to bring an INVITE back; short enough that a leaked one is worth little."""
MAX_TOKEN_CHARS = 200
MAX_USED = 10_000


@attrs.define
class BypassTokens:
    """Issues and checks tokens ``expiry.nonce.signature``; all text is from the base64url alphabet."""

    secret: bytes
    _used: dict[str, float] = attrs.Factory(dict)

    def issue(self, target: str, nonce: str, *, now: float) -> str:
        """target: the public identity that the INVITE is for; now: wall clock, seconds."""
        expiry = f"{int(now + TOKEN_LIFE_S)}"
        return f"{expiry}.{nonce}.{self._sign(expiry, nonce, target)}"

    def is_valid_untrusted(self, token: str, target: str, *, now: float, uses_up: bool = True) -> bool:
        """Whether the token is ours, for this target, not expired and not used before; by default it is then used."""
        parts = token.split(".")
        if len(token) > MAX_TOKEN_CHARS or len(parts) != 3 or not token.isascii():
            return False
        expiry, nonce, signature = parts
        if not hmac.compare_digest(signature, self._sign(expiry, nonce, target)):
            return False
        if float(expiry) < now or nonce in self._used:  # signed, so the expiry is a number
            return False
        if not uses_up:
            return True
        if len(self._used) >= MAX_USED:
            self._used = {used: until for used, until in self._used.items() if until >= now}
        self._used[nonce] = float(expiry)
        return True

    def _sign(self, expiry: str, nonce: str, target: str) -> str:
        text = "\0".join((expiry, nonce, target)).encode()
        return base64.urlsafe_b64encode(hmac.digest(self.secret, text, hashlib.sha256)[:18]).decode()
