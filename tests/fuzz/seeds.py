"""Well-formed inputs of each format."""

from __future__ import annotations

from pathlib import Path

__all__ = ["MESSAGES", "MULTIPART", "SDPS", "SIP_TOKENS", "URIS", "VALUES"]

VECTORS = Path(__file__).parents[1] / "vectors"

SDPS: tuple[bytes, ...] = (
    b"v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\nm=audio 4000 RTP/AVP 8 0 101\r\n"
    b"a=rtpmap:8 PCMA/8000\r\na=rtpmap:101 telephone-event/8000\r\na=fmtp:101 0-15\r\na=ptime:20\r\na=sendrecv\r\n",
    b"v=0\r\no=u 1 2 IN IP6 ::1\r\ns=x\r\nc=IN IP6 2001:db8::1\r\nb=AS:42\r\nt=0 0\r\n"
    b"m=video 0 RTP/AVP 31\r\nm=audio 49152 RTP/AVP 97 98 0\r\nb=RS:0\r\nb=RR:2000\r\na=rtpmap:97 EVS/16000/1\r\n"
    b"a=fmtp:97 br=5.9-24.4; bw=nb-swb\r\na=rtpmap:98 AMR-WB/16000/1\r\na=curr:qos local none\r\n"
    b"a=curr:qos remote none\r\na=des:qos mandatory local sendrecv\r\na=des:qos optional remote sendrecv\r\n"
    b"a=maxptime:240\r\na=inactive\r\n",
    b"v=0\no=- 3 3 IN IP4 0.0.0.0\ns=-\nt=0 0\nm=audio 9 RTP/AVP 0\nc=IN IP4 0.0.0.0\na=sendonly\n",
)

_HEAD = (
    b"Via: SIP/2.0/UDP 10.0.0.1:5060;branch=z9hG4bK-1;rport\r\nMax-Forwards: 70\r\n"
    b"From: <sip:alice@10.0.0.1>;tag=f1\r\nTo: <sip:bob@10.0.0.2>%b\r\n"
    b"Call-ID: fuzz@10.0.0.1\r\nCSeq: %b\r\nContact: <sip:alice@10.0.0.1:5060>\r\n"
)


def _message(start: bytes, cseq: bytes, *, to: bytes = b"", extra: bytes = b"", body: bytes = b"") -> bytes:
    return start + b"\r\n" + _HEAD % (to, cseq) + extra + b"Content-Length: %d\r\n\r\n" % len(body) + body


MULTIPART = (
    b"--b1\r\nContent-Type: application/sdp\r\n\r\n"
    + SDPS[0]
    + b"\r\n--b1\r\nContent-Type: application/3gpp-ims+xml\r\n\r\n"
    b'<ims-3gpp version="1"><service-info>IMSI</service-info></ims-3gpp>\r\n--b1--\r\n'
)

_SDP = b"Content-Type: application/sdp\r\n"
MESSAGES: tuple[bytes, ...] = (
    *(path.read_bytes() for path in sorted((VECTORS / "isc").glob("*.sip"))),
    _message(b"INVITE sip:bob@10.0.0.2 SIP/2.0", b"1 INVITE", extra=_SDP, body=SDPS[0]),
    _message(
        b"INVITE tel:+15550100;phone-context=x SIP/2.0",
        b"1 INVITE",
        extra=b"Supported: 100rel, timer, precondition, 199\r\nRequire: 100rel\r\n"
        b"Session-Expires: 1800;refresher=uac\r\n"
        b"Min-SE: 90\r\nP-Served-User: <sip:bob@x>;sescase=term;regstate=reg\r\n"
        b"P-Asserted-Identity: <sip:a@x>, <tel:+1>\r\n"
        b'P-Charging-Vector: icid-value="a b";orig-ioi="Type 3x"\r\n'
        b"History-Info: <sip:a@x?Reason=SIP%3Bcause%3D302>;index=1\r\n"
        b"Session-ID: ab30317f1a784dc48ff824d0d3715d86;remote=00000000000000000000000000000000\r\n"
        b"Privacy: id;header\r\n"
        b"P-Early-Media: supported\r\nReplaces: fuzz@10.0.0.1;to-tag=t1;from-tag=f1\r\n"
        b"Resource-Priority: ets.0, wps.1\r\n" + _SDP,
        body=SDPS[1],
    ),
    _message(
        b"INVITE sip:bob@10.0.0.2 SIP/2.0",
        b"2 INVITE",
        extra=b'Content-Type: multipart/mixed;boundary="b1"\r\n',
        body=MULTIPART,
    ),
    _message(b"ACK sip:bob@10.0.0.2 SIP/2.0", b"1 ACK", to=b";tag=t1"),
    _message(b"BYE sip:bob@10.0.0.2 SIP/2.0", b"2 BYE", to=b";tag=t1", extra=b'Reason: Q.850;cause=16;text="bye"\r\n'),
    _message(b"CANCEL sip:bob@10.0.0.2 SIP/2.0", b"1 CANCEL"),
    _message(b"PRACK sip:bob@10.0.0.2 SIP/2.0", b"2 PRACK", to=b";tag=t1", extra=b"RAck: 776656 1 INVITE\r\n"),
    _message(b"UPDATE sip:bob@10.0.0.2 SIP/2.0", b"3 UPDATE", to=b";tag=t1", extra=_SDP, body=SDPS[1]),
    _message(
        b"REFER sip:bob@10.0.0.2 SIP/2.0",
        b"4 REFER",
        to=b";tag=t1",
        extra=b"Refer-To: <sip:carol@x;method=INVITE?Replaces=c%40x%3Bto-tag%3D1%3Bfrom-tag%3D2>\r\n"
        b"Refer-Sub: false\r\n"
        b"Referred-By: <sip:a@x>\r\n",
    ),
    _message(
        b"NOTIFY sip:bob@10.0.0.2 SIP/2.0",
        b"5 NOTIFY",
        to=b";tag=t1",
        extra=b"Event: refer;id=4\r\nSubscription-State: active;expires=60\r\n"
        b"Content-Type: message/sipfrag;version=2.0\r\n",
        body=b"SIP/2.0 180 Ringing\r\n",
    ),
    _message(
        b"INFO sip:bob@10.0.0.2 SIP/2.0",
        b"6 INFO",
        to=b";tag=t1",
        extra=b"Content-Type: application/dtmf-relay\r\n",
        body=b"Signal=5\r\nDuration=160\r\n",
    ),
    _message(b"OPTIONS sip:bob@10.0.0.2 SIP/2.0", b"1 OPTIONS"),
    _message(b"MESSAGE sip:bob@10.0.0.2 SIP/2.0", b"1 MESSAGE", extra=b"Content-Type: text/plain\r\n", body=b"hello"),
    _message(b"SUBSCRIBE sip:bob@10.0.0.2 SIP/2.0", b"1 SUBSCRIBE", extra=b"Event: presence\r\nExpires: 3600\r\n"),
    _message(b"SIP/2.0 200 OK", b"1 INVITE", to=b";tag=t1", extra=_SDP, body=SDPS[0]),
    _message(
        b"SIP/2.0 183 Session Progress",
        b"1 INVITE",
        to=b";tag=t1",
        extra=b"Require: 100rel\r\nRSeq: 1\r\n" + _SDP,
        body=SDPS[1],
    ),
    _message(
        b"SIP/2.0 503 Service Unavailable", b"1 INVITE", to=b";tag=t1", extra=b"Retry-After: 2 (busy);duration=3\r\n"
    ),
    # compact forms and folding
    b"INVITE sip:x@10.0.0.2 SIP/2.0\r\nv: SIP/2.0/TCP 10.0.0.1\r\n ;branch=z9hG4bK2\r\nf: a <sip:a@10.0.0.1>;tag=1\r\n"
    b"t:\r\n <sip:x@10.0.0.2>\r\ni: 7@x\r\nCSeq: 7 INVITE\r\nm: <sip:a@10.0.0.1>\r\nk: 100rel\r\nl: 0\r\n\r\n",
)

SIP_TOKENS: tuple[bytes, ...] = (
    b"SIP/2.0",
    b"sip:",
    b"sips:",
    b"tel:+1",
    b"urn:service:sos",
    b";tag=",
    b";branch=z9hG4bK",
    b";rport",
    b";received=1.2.3.4",
    b";lr",
    b";transport=tcp",
    b";maddr=1.1.1.1",
    b"?Route=%3Csip:x%3E",
    b"Via: ",
    b"v: ",
    b"Content-Length: ",
    b"CSeq: 1 ACK",
    b"Route: <sip:10.0.0.9;lr>\r\n",
    b"Record-Route: <sip:10.0.0.9;lr>\r\n",
    b"Require: foo\r\n",
    b"Require: 100rel\r\n",
    b"Supported: 100rel\r\n",
    b"RSeq: 1\r\n",
    b"Content-Type: multipart/mixed;boundary=b1\r\n",
    b"Content-Type: application/sdp\r\n",
    b"--b1\r\n",
    b"ACK",
    b"BYE",
    b"CANCEL",
    b"INVITE",
    b"a=",
    b"m=audio 0 RTP/AVP 0\r\n",
    b"c=IN IP4 0.0.0.0\r\n",
    b"a=sendonly\r\n",
)

URIS: tuple[bytes, ...] = (
    b"sip:alice@example.com",
    b"sips:alice:pw@[2001:db8::1]:5061;transport=tcp;lr?Subject=x&Route=%3Csip:a%3E",
    b"tel:+1-201-555-0123;phone-context=+1;ext=7",
    b"sip:+15550100;phone-context=x.org@gw.example.com;user=phone;method=INVITE;ttl=1;maddr=224.2.0.1",
    b"urn:service:sos.fire",
    b"sip:1_unusual.URI~(to-be!sure)&isn't+it$/crazy?,/;;*:&it+has=1,weird!*pas$wo~d_too.(doesn't-it)@example.com",
    b"sip:odi_Kq7xZ@scscf1.ims.example.net:5054;transport=tcp;lr;orig",
)

VALUES: tuple[bytes, ...] = (
    b'"A. G. \\"Bell\\"" <sip:agb@bell-telephone.com;x=y?h=v>;tag=a48s;q=0.3',
    b"sip:c8oqz84zk7z@privacy.org;tag=hyh8",
    b"SIP / 2.0 / UDP [2001:db8::9:1]:5060;branch=z9hG4bKas3-111;rport=5062;received=1.2.3.4;ttl=16",
    b"4711 INVITE",
    b"776656 1 INVITE",
    b"1800;refresher=uas",
    b"<sip:bob@x>;sescase=term;regstate=reg",
    b"<sip:bob@x>;orig-cdiv",
    b'Q.850;cause=16;text="Terminated", SIP;cause=200',
    b"3600",
    b"<sip:a@x>, <tel:+1;a=b>, c <sip:d@e>",
    b"call@x;to-tag=7;from-tag=8;early-only",
    b'icid-value=a;icid-generated-at=[::1];orig-ioi=x;term-ioi="y z"',
    b"<sip:a@x?Reason=SIP%3Bcause%3D302>;index=1.1;cause=302, <tel:+1>;index=1.2;mp=1",
)
