"""python-diameter's client under the same load as ours: python_diameter_client.py WHAT HOST PORT REALM N WIDTH

WHAT: `node` (typed UDR, send_request, typed UDA) from WIDTH threads, `push` (PNRs are answered in the node's thread,
its cheapest way; nothing is done with what they say). Runs in .venv-peers, as in tests/support/peers.
"""

import json
import logging
import resource
import sys
import threading
import time

from diameter.message import constants
from diameter.message.avp.grouped import SupportedFeatures, UserIdentity, VendorSpecificApplicationId
from diameter.message.commands import PushNotificationRequest, UserDataAnswer, UserDataRequest
from diameter.node import Node
from diameter.node.application import Application

SH, TGPP = 16777217, 10415
NAME, SERVER = "as.bench.example", "hss.bench.example"
# its classes take User-Data for 606, the one of Cx
for kind in (PushNotificationRequest, UserDataAnswer):
    kind.avp_def = tuple(
        row._replace(avp_code=constants.AVP_TGPP_SH_USER_DATA) if row.attr_name == "user_data" else row
        for row in kind.avp_def
    )
logging.disable(logging.WARNING)


def cpu_s():
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


class Client(Application):
    def __init__(self, host, port, realm):
        super().__init__(SH, is_auth_application=True)
        self.realm, self.to_push, self.n_pushed, self.all_pushed = realm, 0, 0, threading.Event()
        node = Node(NAME, realm, vendor_ids=[TGPP])
        peer = node.add_peer(f"aaa://{SERVER}:{port}", realm, ip_addresses=[host], is_persistent=True)
        node.add_application(self, [peer])
        node.start()
        self.wait_for_ready(5)

    def handle_request(self, message):
        assert message.user_data
        answer = self.generate_answer(message, constants.E_RESULT_CODE_DIAMETER_SUCCESS)
        answer.vendor_specific_application_id = VendorSpecificApplicationId(vendor_id=TGPP, auth_application_id=SH)
        answer.auth_session_state = constants.E_AUTH_SESSION_STATE_NO_STATE_MAINTAINED
        self.send_answer(answer)
        self.n_pushed += 1
        if self.n_pushed == self.to_push:
            self.all_pushed.set()

    def ask(self):
        request = UserDataRequest()
        request.session_id = self.node.session_generator.next_id()
        request.vendor_specific_application_id = VendorSpecificApplicationId(vendor_id=TGPP, auth_application_id=SH)
        request.auth_session_state = constants.E_AUTH_SESSION_STATE_NO_STATE_MAINTAINED
        request.origin_host, request.origin_realm = NAME.encode(), self.realm.encode()
        request.destination_realm = self.realm.encode()
        request.supported_features = [SupportedFeatures(vendor_id=TGPP, feature_list_id=1, feature_list=1)]
        request.user_identity = UserIdentity(public_identity="sip:user-00000000@bench.example")
        request.server_name = f"sip:{NAME}"
        request.service_indication = [b"ai-voice-agent"]
        request.data_reference = [0, 13, 11, 12]
        answer = self.send_request(request, timeout=10)
        assert answer.result_code == constants.E_RESULT_CODE_DIAMETER_SUCCESS
        assert answer.user_data


def in_parallel(client, count, width):
    def work():
        for _ in range(count // width):
            client.ask()

    threads = [threading.Thread(target=work) for _ in range(width)]
    spent, began = cpu_s(), time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return {"count": count // width * width, "cpu_s": cpu_s() - spent, "seconds": time.perf_counter() - began}


def main():
    what, host, port, realm, count, width = sys.argv[1:]
    client = Client(host, int(port), realm)
    if what == "push":
        client.to_push = int(count)
        spent, began = cpu_s(), time.perf_counter()
        client.ask()
        client.all_pushed.wait(60)
        result = {"count": client.n_pushed, "cpu_s": cpu_s() - spent, "seconds": time.perf_counter() - began}
    else:
        in_parallel(client, 64, 4)
        result = in_parallel(client, int(count), int(width))
    print(json.dumps(result), flush=True)
    client.node.stop(force=True)


main()
