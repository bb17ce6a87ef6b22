"""An HSS on python-diameter: UDR, PUR and SNR are answered, PNR is sent.  Runs in .venv-peers.

    python_diameter_hss.py HOST PORT REALM ORIGIN_HOST_OF_THE_AS USERS

USERS: JSON, public identity → {"si": …, "data": XML, "sequence": n, "ifcs": XML, "state": n, "scscf": URI}.
Prints "ready"; then, for each JSON line on stdin, one on stdout:

{"log": true}                       [command, Origin-Host, header flags] of each request so far
{"peers": true}                     counters of the AS as peer: CER, DWR, DWA, DPR …
{"change": impu, "data": XML}       new service data; whoever has subscribed gets a PNR; Result-Codes of the PNAs
{"silent": bool}                    application requests stay unanswered
"""

import json
import sys
import threading
from xml.sax.saxutils import escape

from diameter.message import constants
from diameter.message.avp.grouped import ExperimentalResult, UserIdentity, VendorSpecificApplicationId
from diameter.message.commands import (
    ProfileUpdateRequest,
    PushNotificationRequest,
    UserDataAnswer,
    UserDataRequest,
)
from diameter.node import Node
from diameter.node.application import SimpleThreadingApplication
from diameter.node.peer import PeerStats

SH, TGPP = 16777217, 10415
# its classes take User-Data for 606, the one of Cx, and miss it in what is sent as 702
for kind in (ProfileUpdateRequest, PushNotificationRequest, UserDataAnswer):
    kind.avp_def = tuple(
        row._replace(avp_code=constants.AVP_TGPP_SH_USER_DATA) if row.attr_name == "user_data" else row
        for row in kind.avp_def
    )
NAME = "hss.peer.example"
USER_UNKNOWN, OUT_OF_SYNC = 5001, 5105
REPOSITORY_DATA, STATE, SCSCF_NAME, IFCS = 0, 11, 12, 13


# its statistics fail on an answer that carries Experimental-Result and no Result-Code, and end the thread that sends
count_result = PeerStats.add_sent_result_code
PeerStats.add_sent_result_code = lambda stats, code: None if code is None else count_result(stats, code)


class Hss:
    def __init__(self, host, port, realm, as_host, users):
        self.users, self.realm, self.as_host = users, realm, as_host
        self.log, self.subscriptions, self.silent = [], set(), False
        self.lock = threading.Lock()
        self.node = Node(NAME, realm, ip_addresses=[host], tcp_port=port, vendor_ids=[TGPP])
        self.node.wakeup_interval = 1
        self.peer = self.node.add_peer(f"aaa://{as_host}", realm)
        self.app = SimpleThreadingApplication(SH, is_auth_application=True, request_handler=self.handle)
        self.node.add_application(self.app, [self.peer])
        self.node.start()

    def handle(self, app, request):
        with self.lock:
            name = type(request).__name__
            self.log.append([name, request.origin_host.decode(), request.header.command_flags])
            if self.silent:
                return None
            answer = app.generate_answer(request, constants.E_RESULT_CODE_DIAMETER_SUCCESS)
            answer.vendor_specific_application_id = VendorSpecificApplicationId(vendor_id=TGPP, auth_application_id=SH)
            answer.auth_session_state = constants.E_AUTH_SESSION_STATE_NO_STATE_MAINTAINED
            impu = request.user_identity.public_identity
            user = self.users.get(impu)
            if user is None:
                return refuse(answer, USER_UNKNOWN)
            if isinstance(request, UserDataRequest):
                answer.user_data = document(impu, user, request.data_reference)
            elif isinstance(request, ProfileUpdateRequest):
                return self.update(request, answer, user)
            else:
                self.subscriptions.add((impu, request.origin_host, request.origin_realm))
            return answer

    def update(self, request, answer, user):
        text = request.user_data.decode()
        sequence = int(text.partition("<SequenceNumber>")[2].partition("<")[0])
        if sequence != user["sequence"] + 1:
            return refuse(answer, OUT_OF_SYNC)
        user["sequence"], user["data"] = sequence, text.partition("<ServiceData>")[2].partition("</ServiceData>")[0]
        return answer

    def change(self, impu, data):
        user = self.users[impu]
        user["data"], user["sequence"] = data, user["sequence"] + 1
        results = []
        for subscribed, host, realm in sorted(self.subscriptions):
            if subscribed != impu:
                continue
            push = PushNotificationRequest()
            push.session_id = self.node.session_generator.next_id()
            push.vendor_specific_application_id = VendorSpecificApplicationId(vendor_id=TGPP, auth_application_id=SH)
            push.auth_session_state = constants.E_AUTH_SESSION_STATE_NO_STATE_MAINTAINED
            push.origin_host, push.origin_realm = NAME.encode(), self.realm.encode()
            push.destination_host, push.destination_realm = host, realm
            push.user_identity = UserIdentity(public_identity=impu)
            push.user_data = document(impu, user, [REPOSITORY_DATA])
            results.append(self.app.send_request(push, timeout=5).result_code)
        return results

    def answer(self, asked):
        if "change" in asked:
            return self.change(asked["change"], asked["data"])
        if "silent" in asked:
            self.silent = asked["silent"]
            return True
        if "peers" in asked:
            counters = vars(self.peer.counters)
            return {**counters, "connected": self.peer.connection is not None}
        return self.log


def refuse(answer, code):
    answer.result_code = None
    answer.experimental_result = ExperimentalResult(vendor_id=TGPP, experimental_result_code=code)
    return answer


def document(impu, user, references):
    parts = []
    if REPOSITORY_DATA in references:
        parts.append(
            f"<RepositoryData><ServiceIndication>{user['si']}</ServiceIndication><SequenceNumber>{user['sequence']}"
            f"</SequenceNumber><ServiceData>{user['data']}</ServiceData></RepositoryData>"
        )
    ims = ""
    if SCSCF_NAME in references:
        ims += f"<SCSCFName>{escape(user['scscf'])}</SCSCFName>"
    if IFCS in references:
        ims += user["ifcs"]
    if STATE in references:
        ims += f"<IMSUserState>{user['state']}</IMSUserState>"
    parts.append(f"<Sh-IMS-Data>{ims}</Sh-IMS-Data>" if ims else "")
    identity = f"<PublicIdentifiers><IMSPublicIdentity>{escape(impu)}</IMSPublicIdentity></PublicIdentifiers>"
    return f'<?xml version="1.0" encoding="UTF-8"?><Sh-Data>{identity}{"".join(parts)}</Sh-Data>'.encode()


def main():
    host, port, realm, as_host, users = sys.argv[1:]
    hss = Hss(host, int(port), realm, as_host, json.loads(users))
    print(json.dumps("ready"), flush=True)
    for line in sys.stdin:
        print(json.dumps(hss.answer(json.loads(line))), flush=True)


main()
