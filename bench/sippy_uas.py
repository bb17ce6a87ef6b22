"""The shortest honest UAS on Sippy: 100, 180, 200 with SDP, then until BYE."""

import os
import sys

from sippy.CCEvents import CCEventConnect, CCEventRing, CCEventTry
from sippy.Core.EventDispatcher import ED2
from sippy.MsgBody import MsgBody
from sippy.SipAddress import SipAddress
from sippy.SipConf import SipConf
from sippy.SipContact import SipContact
from sippy.SipTransactionManager import SipTransactionManager
from sippy.SipURL import SipURL
from sippy.UA import UA

HOST, PORT = os.environ["BENCH_SIP_HOST"], int(os.environ["BENCH_SIP_PORT"])
SDP = (
    f"v=0\r\no=- 1 1 IN IP4 {HOST}\r\ns=-\r\nc=IN IP4 {HOST}\r\nt=0 0\r\n"
    "m=audio 40000 RTP/AVP 0\r\na=rtpmap:0 PCMU/8000\r\n"
)


class NoLog:
    level = 100
    itime = None

    def write(self, *a, **k):
        pass


def on_event(event, ua):
    if isinstance(event, CCEventTry):
        ua.recvEvent(CCEventRing((180, "Ringing", None)))
        ua.recvEvent(CCEventConnect((200, "OK", MsgBody(SDP))))


def on_request(req, sip_t):
    if req.getHFBody("to").getTag() is not None:
        return (req.genResponse(481, "Call Leg/Transaction Does Not Exist"), None, None)
    if req.getMethod() == "INVITE":
        ua = UA(config, on_event)
        # no display name: SIPp's [next_url] cannot read one
        ua.lContact = SipContact(address=SipAddress(url=SipURL(host=HOST, port=PORT)))
        return ua.recvRequest(req, sip_t)
    if req.getMethod() == "OPTIONS":
        return (req.genResponse(200, "OK"), None, None)
    return (req.genResponse(501, "Not Implemented"), None, None)


SipConf.my_uaname = "Sippy UAS"
config = {"_sip_address": HOST, "_sip_port": PORT, "_sip_logger": NoLog(), "nh_addr": (HOST, PORT)}
config["_sip_tm"] = SipTransactionManager(config, on_request)
sys.exit(ED2.loop())
