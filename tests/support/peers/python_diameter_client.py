"""An application server on python-diameter: asks an HSS, and takes its notifications.  Runs in .venv-peers.

    python_diameter_client.py HOST PORT REALM ORIGIN_HOST_OF_THE_HSS OWN_HOST

Prints "ready" when the peer is open; then, for each JSON line on stdin, one on stdout:

{"udr": impu, "references": [...], "si": …, "server": …}   {"result": …, "data": XML or null}
{"pur": impu, "data": XML}                                 the same
{"snr": impu, "references": [...], "si": …}                the same
{"pushed": n}                                              the XML of n notifications, waited for
{"strange": true}                                          the answer to a UDR that lacks what is mandatory
"""

import json
import queue
import sys

from diameter.message import constants
from diameter.message.avp.grouped import SupportedFeatures, UserIdentity, VendorSpecificApplicationId
from diameter.message.commands import (
    ProfileUpdateRequest,
    PushNotificationRequest,
    SubscribeNotificationsAnswer,
    SubscribeNotificationsRequest,
    UserDataAnswer,
    UserDataRequest,
)
from diameter.node import Node
from diameter.node.application import SimpleThreadingApplication

SH, TGPP = 16777217, 10415
# its classes take User-Data for 606, the one of Cx, and miss it in what is sent as 702
for kind in (ProfileUpdateRequest, PushNotificationRequest, SubscribeNotificationsAnswer, UserDataAnswer):
    kind.avp_def = tuple(
        row._replace(avp_code=constants.AVP_TGPP_SH_USER_DATA) if row.attr_name == "user_data" else row
        for row in kind.avp_def
    )
WAIT_S = 5


class Client:
    def __init__(self, host, port, realm, hss_host, own_host):
        self.realm = realm
        self.pushed = queue.Queue()
        self.node = Node(own_host, realm, vendor_ids=[TGPP])
        self.node.wakeup_interval = 1
        peer = self.node.add_peer(f"aaa://{hss_host}:{port}", realm, ip_addresses=[host], is_persistent=True)
        self.app = SimpleThreadingApplication(SH, is_auth_application=True, request_handler=self.handle)
        self.node.add_application(self.app, [peer])
        self.node.start()
        self.app.wait_for_ready(WAIT_S)

    def handle(self, app, request):
        answer = app.generate_answer(request, constants.E_RESULT_CODE_DIAMETER_SUCCESS)
        answer.vendor_specific_application_id = VendorSpecificApplicationId(vendor_id=TGPP, auth_application_id=SH)
        answer.auth_session_state = constants.E_AUTH_SESSION_STATE_NO_STATE_MAINTAINED
        self.pushed.put(user_data(request))
        return answer

    def head(self, request, impu):
        request.session_id = self.node.session_generator.next_id()
        request.vendor_specific_application_id = VendorSpecificApplicationId(vendor_id=TGPP, auth_application_id=SH)
        request.auth_session_state = constants.E_AUTH_SESSION_STATE_NO_STATE_MAINTAINED
        request.origin_host, request.origin_realm = self.node.origin_host.encode(), self.realm.encode()
        request.destination_realm = self.realm.encode()
        request.supported_features = [SupportedFeatures(vendor_id=TGPP, feature_list_id=1, feature_list=1)]
        if impu is not None:
            request.user_identity = UserIdentity(public_identity=impu)
        return request

    def ask(self, request):
        answer = self.app.send_request(request, timeout=WAIT_S)
        code = answer.result_code
        if code is None:
            code = [answer.experimental_result.vendor_id, answer.experimental_result.experimental_result_code]
        failed = answer.find_avps((constants.AVP_FAILED_AVP, 0))
        return {
            "result": code,
            "data": user_data(answer),
            "failed": [[avp.vendor_id, avp.code] for group in failed for avp in group.value],
            "origin": answer.origin_host.decode(),
        }

    def answer(self, asked):
        if "pushed" in asked:
            return [self.pushed.get(timeout=WAIT_S) for _ in range(asked["pushed"])]
        if "strange" in asked:
            return self.ask(self.head(UserDataRequest(), None))
        if "pur" in asked:
            request = self.head(ProfileUpdateRequest(), asked["pur"])
            request.data_reference = [0]
            request.user_data = asked["data"].encode()
            return self.ask(request)
        if "snr" in asked:
            request = self.head(SubscribeNotificationsRequest(), asked["snr"])
            request.subs_req_type, request.send_data_indication = 0, 1
        else:
            request = self.head(UserDataRequest(), asked["udr"])
        request.data_reference = asked["references"]
        request.service_indication = [asked["si"].encode()] if "si" in asked else []
        request.server_name = asked.get("server")
        return self.ask(request)


def user_data(message):
    found = getattr(message, "user_data", None)
    return found.decode() if found else None


def main():
    host, port, realm, hss_host, own_host = sys.argv[1:]
    client = Client(host, int(port), realm, hss_host, own_host)
    print(json.dumps("ready"), flush=True)
    for line in sys.stdin:
        print(json.dumps(client.answer(json.loads(line))), flush=True)


main()
