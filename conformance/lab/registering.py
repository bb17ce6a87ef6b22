"""REGISTER of a lab phone with digest authentication (RFC 3261 §10 and §22, RFC 7616 with MD5)."""

from __future__ import annotations

import hashlib
import re
import secrets

import trio

from conformance.lab.ue import LabPhone
from ims_as.sip.flow import Destination
from ims_as.sip.message import Request, Response
from ims_as.sip.transaction import ClientEvent, ResponseReceived

__all__ = ["authorize", "register"]

DEADLINE_S = 10.0
SETTLE_S = 0.1
"""Between the challenge and the answer to it: a registrar that stores the challenge after sending it is not outrun."""
_PARAMETER = re.compile(r'(\w+)\s*=\s*(?:"([^"]*)"|([^\s,]+))')


def authorize(challenge: str, *, username: str, password: str, uri: str, cnonce: str, method: str = "REGISTER") -> str:
    """The Authorization value that answers a WWW-Authenticate of scheme Digest with algorithm MD5."""
    given = {match[1].lower(): match[2] or match[3] or "" for match in _PARAMETER.finditer(challenge)}

    def md5(text: str) -> str:
        return hashlib.md5(text.encode()).hexdigest()

    realm, nonce = given.get("realm", ""), given.get("nonce", "")
    ha1 = md5(f"{username}:{realm}:{password}")
    ha2 = md5(f"{method}:{uri}")
    head = f'Digest username="{username}",realm="{realm}",nonce="{nonce}",uri="{uri}",algorithm=MD5'
    if "auth" not in given.get("qop", ""):
        response = md5(f"{ha1}:{nonce}:{ha2}")
        return f'{head},response="{response}"'
    response = md5(f"{ha1}:{nonce}:00000001:{cnonce}:auth:{ha2}")
    return f'{head},qop=auth,nc=00000001,cnonce="{cnonce}",response="{response}"'


async def register(
    phone: LabPhone, *, registrar: Destination, impi: str, password: str, domain: str, expires_s: int = 3600
) -> int:
    """Register the phone's identity (0 seconds end that); the final status.  Raises trio.TooSlowError."""
    call_id = phone.endpoint.new_call_id()
    tag = phone.endpoint.new_tag()
    authorization: str | None = None
    with trio.fail_after(DEADLINE_S):
        for number in (1, 2):
            request = Request(
                "REGISTER",
                f"sip:{domain}",
                [
                    ("Max-Forwards", "70"),
                    ("From", f"<{phone.impu}>;tag={tag}"),
                    ("To", f"<{phone.impu}>"),
                    ("Call-ID", call_id),
                    ("CSeq", f"{number} REGISTER"),
                    ("Contact", f"<{phone.contact}>;expires={expires_s}"),
                    ("Expires", str(expires_s)),
                    ("Supported", "path"),
                    ("P-Charging-Vector", f'icid-value="{call_id}"'),
                ],
            )
            if authorization is not None:
                request.headers.add("Authorization", authorization)
            response = await _ask(phone, request, registrar)
            challenge = response.headers.get("WWW-Authenticate")
            if response.status != 401 or challenge is None:
                return response.status
            authorization = authorize(
                challenge, username=impi, password=password, uri=f"sip:{domain}", cnonce=secrets.token_hex(8)
            )
            await trio.sleep(SETTLE_S)
    return response.status


async def _ask(phone: LabPhone, request: Request, destination: Destination) -> Response:
    got_in, got = trio.open_memory_channel[Response](1)

    def on_event(event: ClientEvent) -> None:
        if isinstance(event, ResponseReceived) and event.response.status >= 200:
            got_in.send_nowait(event.response)

    phone.endpoint.send_request(request, destination=destination, on_event=on_event)
    return await got.receive()
