"""The bypass token: how our own INVITE is known again when the filter criteria bring it back to us.

After the answer the original dialog identifier is dead, so a caller is handed to the served user by a *new* INVITE
towards the core.  The criteria of the served user match it again; without a mark the agent would be called instead of
the phone, for ever.  The token names the target and an expiry, and is signed; it is good for one pass, or for two where
the INVITE goes by the criteria of both its caller and its callee.
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
    """Issues and checks tokens ``expiry.nonce[.passes].signature``; all text is from the base64url alphabet."""

    secret: bytes
    _used: dict[str, float] = attrs.Factory(dict)

    def issue(self, target: str, nonce: str, *, now: float, passes: int = 1) -> str:
        """target: the public identity that the INVITE is for; now: wall clock, seconds."""
        expiry = f"{int(now + TOKEN_LIFE_S)}"
        mark = nonce if passes == 1 else f"{nonce}.{passes}"
        return f"{expiry}.{mark}.{self._sign(expiry, mark, target)}"

    def is_valid_untrusted(self, token: str, target: str, *, now: float, uses_up: bool = True) -> bool:
        """Whether the token is ours, for this target, not expired and not used up; by default it is used."""
        parts = token.split(".")
        if len(token) > MAX_TOKEN_CHARS or len(parts) not in (3, 4) or not token.isascii():
            return False
        expiry, *marks, signature = parts
        if not hmac.compare_digest(signature, self._sign(expiry, ".".join(marks), target)):
            return False
        passes = int(marks[1]) if len(marks) == 2 else 1  # signed, so this and the expiry are numbers
        nonce = next((each for n in range(passes) if (each := f"{marks[0]}.{n}") not in self._used), None)
        if float(expiry) < now or nonce is None:
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
