"""Black holes, and descriptions that cross between dialogs with other numbers of m= lines."""

from __future__ import annotations

from typing import Any

import pytest

from ims_as.call.black_hole import black_hole_answer
from ims_as.call.session_pair import PairSide, SessionPair
from ims_as.sip.errors import LocalProtocolError, SdpError
from ims_as.sip.invite_session import (
    Acked,
    ReinviteAnswered,
    ReinviteReceived,
    ReinviteRejected,
    SessionEvent,
    UpdateAnswered,
    UpdateReceived,
    UpdateRejected,
)
from ims_as.sip.message import Request, Response
from ims_as.sip.offer_answer import SdpSession
from ims_as.sip.sdp import parse_sdp_untrusted

HEAD = b"v=0\r\no=x 1 1 IN IP4 192.0.2.1\r\ns=-\r\nc=IN IP4 192.0.2.1\r\nt=0 0\r\n"
AUDIO = b"m=audio 4000 RTP/AVP 8 101\r\na=rtpmap:101 telephone-event/8000\r\na=sendrecv\r\na=crypto:1 X\r\n"
VIDEO = b"m=video 5000 RTP/AVP 96\r\n"


def sdp() -> SdpSession:
    return SdpSession("-", 1, 1, "192.0.2.9")


@pytest.mark.parametrize("body", [HEAD + VIDEO + AUDIO + AUDIO, HEAD + AUDIO])
def test_a_black_hole_takes_one_audio_line(body: bytes) -> None:
    answer = parse_sdp_untrusted(black_hole_answer(body, sdp()))
    offer = parse_sdp_untrusted(body)
    taken = [line for line in answer.media if line.port]
    assert len(answer.media) == len(offer.media)
    assert len(taken) == 1
    assert answer.connection_of(taken[0]) == "0.0.0.0"
    assert answer.direction_of(taken[0]).value == "inactive"
    assert taken[0].formats == ("8", "101")
    assert taken[0].attribute("crypto") is None
    assert taken[0].attribute("rtpmap") == "101 telephone-event/8000"


def test_a_black_hole_of_the_offers_family_and_one_without_audio() -> None:
    answer = black_hole_answer((HEAD + AUDIO).replace(b"IP4 192.0.2.1\r\nt", b"IP6 2001:db8::1\r\nt"), sdp())
    assert b"c=IN IP6 ::\r\n" in answer
    assert [line.port for line in parse_sdp_untrusted(black_hole_answer(HEAD + VIDEO, sdp())).media] == [0]
    lines = f"a=crypto:3 AES_CM_128_HMAC_SHA1_80 inline:{'A' * 40}\r\n".encode()
    secure = (HEAD + AUDIO).replace(b"RTP/AVP", b"RTP/SAVP") + lines
    (crypto,) = parse_sdp_untrusted(black_hole_answer(secure, sdp())).media[0].attribute_values("crypto")
    assert crypto.startswith("3 AES_CM_128_HMAC_SHA1_80 inline:")
    assert "AAAA" not in crypto
    with pytest.raises(SdpError):
        black_hole_answer(b"nonsense", sdp())


class FakeSession:
    """Notes what it is told to do."""

    def __init__(self) -> None:
        self.done: list[tuple[str, object]] = []
        self.local_body = b"local"
        self.can_update = True
        self.is_refusing = False

    def __getattr__(self, name: str) -> Any:
        def do(argument: object = None) -> bool:
            if self.is_refusing and name in ("reinvite", "update"):
                raise LocalProtocolError("busy")
            self.done.append((name, argument))
            return True

        return do


def pair() -> tuple[SessionPair, PairSide, PairSide, FakeSession, FakeSession]:
    a, b = FakeSession(), FakeSession()
    first, second = PairSide("first", a, sdp()), PairSide("second", b, sdp())  # type: ignore[arg-type]
    return SessionPair(first, second), first, second, a, b


def request(body: bytes, method: str = "INVITE") -> Request:
    return Request(method, "sip:x", [("Content-Type", "application/sdp")], body)


def ok(body: bytes) -> Response:
    return Response(200, "OK", [("Content-Type", "application/sdp")], body)


def lines_of(action: tuple[str, object]) -> list[bool]:
    assert isinstance(action[1], bytes)
    return [line.port > 0 for line in parse_sdp_untrusted(action[1]).media]


def test_lines_are_padded_and_cut() -> None:
    couple, first, second, a, b = pair()
    couple.receive(first, ReinviteReceived(request(HEAD + AUDIO + VIDEO)))
    assert (b.done[0][0], lines_of(b.done[0])) == ("reinvite", [True, True])
    couple.receive(second, ReinviteAnswered(ok(HEAD + AUDIO)))  # an answer with a line too few
    assert (a.done[0][0], lines_of(a.done[0])) == ("accept_reinvite", [True, False])
    couple.receive(first, ReinviteReceived(request(HEAD + AUDIO)))
    assert lines_of(b.done[1]) == [True, False]  # that dialog has had two
    couple.receive(second, ReinviteAnswered(ok(HEAD + AUDIO + VIDEO)))
    assert lines_of(a.done[1]) == [True]
    assert not couple.is_busy


def test_an_update_goes_on_as_an_update_where_the_other_takes_it() -> None:
    couple, first, second, a, b = pair()
    couple.receive(first, UpdateReceived(request(HEAD + AUDIO, "UPDATE")))
    couple.receive(second, UpdateAnswered(ok(HEAD + AUDIO)))
    b.can_update = False
    couple.receive(first, UpdateReceived(request(HEAD + AUDIO, "UPDATE")))
    couple.receive(second, ReinviteRejected(488, None))
    assert [name for name, _ in b.done] == ["update", "reinvite"]
    assert [name for name, _ in a.done] == ["accept_update", "reject_update"]
    b.can_update = True
    couple.receive(first, UpdateReceived(request(HEAD + AUDIO, "UPDATE")))
    couple.receive(second, UpdateRejected(481, None))
    assert a.done[-1] == ("reject_update", 500)  # the other's dialog is its own affair


def test_one_exchange_at_a_time() -> None:
    couple, first, second, a, b = pair()
    couple.receive(first, ReinviteReceived(request(HEAD + AUDIO)))
    for event in (ReinviteReceived(request(HEAD + AUDIO)), ReinviteReceived(request(b""))):
        couple.receive(second, event)
        assert b.done[-1] == ("reject_reinvite", 491)
    couple.receive(second, ReinviteAnswered(ok(HEAD + AUDIO)))
    a.is_refusing = True
    for event in (ReinviteReceived(request(HEAD + AUDIO)), ReinviteReceived(request(b""))):
        couple.receive(second, event)
        assert b.done[-1] == ("reject_reinvite", 491)
    assert not couple.is_busy


def test_what_cannot_be_read_is_refused() -> None:
    couple, first, second, a, b = pair()
    couple.receive(first, ReinviteReceived(request(b"nonsense")))
    assert a.done == [("reject_reinvite", 488)]
    couple.receive(first, ReinviteReceived(request(HEAD + AUDIO)))
    couple.receive(second, ReinviteAnswered(ok(b"nonsense")))
    assert a.done[-1] == ("reject_reinvite", 488)
    couple.receive(first, ReinviteReceived(request(b"")))
    couple.receive(second, ReinviteAnswered(ok(b"nonsense"), needs_ack=True))
    assert a.done[-1] == ("reject_reinvite", 488)
    assert b.done[-1] == ("ack", b"local")
    assert not couple.is_busy


def test_an_asker_that_owes_its_answer() -> None:
    couple, first, second, a, b = pair()
    couple.receive(first, ReinviteReceived(request(b"")))
    couple.receive(second, ReinviteAnswered(ok(HEAD + AUDIO), needs_ack=True))
    assert a.done[-1][0] == "accept_reinvite"
    couple.receive(first, Acked(request(b"", "ACK")))
    assert b.done[-1] == ("ack", b"local")
    assert not couple.is_busy
    couple.receive(first, Acked(request(HEAD + AUDIO, "ACK")))  # of nothing
    assert len(b.done) == 2


def test_a_refresh_that_changes_the_description_is_passed_on() -> None:
    couple, first, second, a, b = pair()
    event: SessionEvent = ReinviteAnswered(ok(HEAD + AUDIO))
    couple.receive(first, event)
    assert b.done[0][0] == "reinvite"
    couple.receive(second, ReinviteAnswered(ok(HEAD + AUDIO)))
    assert not a.done
    assert not couple.is_busy
