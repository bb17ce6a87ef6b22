"""Each dialog keeps an o= line of ours; its version rises exactly when the description changes (RFC 3264 §8)."""

import pytest

from ims_as.call.sdp_relay import answer_for_untrusted, media_target, relay_untrusted
from ims_as.sip.errors import SdpError
from ims_as.sip.offer_answer import SdpSession
from ims_as.sip.sdp import parse_sdp_untrusted

OFFER = b"v=0\r\no=ue 7 4 IN IP4 10.0.0.1\r\ns=-\r\nc=IN IP4 10.0.0.1\r\nt=0 0\r\nm=audio 4000 RTP/AVP 8 0\r\na=x:1\r\n"


def session(version: int = 1) -> SdpSession:
    return SdpSession("-", 99, version, "10.9.9.9")


def rewrite(body: bytes, into: SdpSession) -> bytes:
    return relay_untrusted(body, into).to_bytes()


def origin(body: bytes) -> bytes:
    return next(line for line in body.split(b"\r\n") if line.startswith(b"o="))


def test_the_rest_goes_over_as_it_came():
    written = rewrite(OFFER, session())
    assert origin(written) == b"o=- 99 1 IN IP4 10.9.9.9"
    assert written.replace(origin(written), b"") == OFFER.replace(origin(OFFER), b"")


def test_versions():
    into = session(5)
    assert b"99 5 " in rewrite(OFFER, into)
    assert b"99 5 " in rewrite(OFFER.replace(b"ue 7 4", b"ue 7 5"), into)
    assert b"99 6 " in rewrite(OFFER.replace(b"4000", b"4002"), into)


def test_preconditions_are_of_one_hop():
    lines = b"a=curr:qos local none\r\na=des:qos mandatory local sendrecv\r\na=conf:qos remote sendrecv\r\n"
    assert rewrite(OFFER + lines, session()) == rewrite(OFFER, session())


@pytest.mark.parametrize("body", [b"", b"hello", b"v=0\r\n"])
def test_rubbish(body: bytes):
    with pytest.raises(SdpError):
        relay_untrusted(body, session())


def test_an_answer_on_behalf_of_a_party():
    party = OFFER + b"a=sendonly\r\na=fmtp:8 x=1\r\n"
    offer = OFFER.replace(b"4000", b"5000").replace(b"8 0", b"0 8 97") + b"a=curr:qos local sendrecv\r\n"
    answer = answer_for_untrusted(offer, party, session())
    assert (answer.media[0].port, answer.media[0].formats) == (4000, ("0",))
    assert answer.connection_of(answer.media[0]) == "10.0.0.1"
    assert answer.direction_of(answer.media[0]).value == "sendonly"
    assert answer.media[0].attribute_values("curr") == ["qos local sendrecv", "qos remote sendrecv"]
    with pytest.raises(SdpError):
        answer_for_untrusted(OFFER.replace(b"8 0", b"97"), party, session())
    with pytest.raises(SdpError):
        answer_for_untrusted(offer, OFFER.replace(b"4000", b"0"), session())


def secure(body: bytes, key: str, tag: int = 1) -> bytes:
    suite = "AES_CM_128_HMAC_SHA1_80"
    return body.replace(b"RTP/AVP", b"RTP/SAVP") + f"a=crypto:{tag} {suite} inline:{key * 40}\r\n".encode()


def test_an_answer_on_behalf_of_a_party_has_its_key():
    answer = answer_for_untrusted(secure(OFFER, "A"), secure(OFFER, "B"), session())
    assert answer.media[0].attribute_values("crypto") == [f"1 AES_CM_128_HMAC_SHA1_80 inline:{'B' * 40}"]
    for offer, party in (
        (secure(OFFER, "A", 2), secure(OFFER, "B")),
        (secure(OFFER, "A"), OFFER),
        (OFFER, secure(OFFER, "B")),
    ):
        with pytest.raises(SdpError):
            answer_for_untrusted(offer, party, session())


def test_another_key_is_another_target():
    first, second = (media_target(parse_sdp_untrusted(secure(OFFER, key))) for key in "AB")
    assert first != second
    assert first == media_target(parse_sdp_untrusted(secure(OFFER, "A")))


def test_media_target_sees_address_port_and_formats_only():
    def target(body: bytes) -> list[tuple[object, ...]]:
        return media_target(parse_sdp_untrusted(body))

    assert target(OFFER) == target(OFFER.replace(b"a=x:1", b"a=y:2").replace(b"ue 7 4", b"ue 7 5"))
    assert target(OFFER) != target(OFFER.replace(b"4000", b"4002"))
    assert target(OFFER) != target(OFFER.replace(b"8 0", b"0 8"))
    assert target(OFFER) != target(OFFER.replace(b"c=IN IP4 10.0.0.1", b"c=IN IP4 10.0.0.2"))
