"""User-to-User fits an ISDN gateway whatever the reason; Call-Info names the call's data."""

import json

from hypothesis import given
from hypothesis import strategies as st

from ims_as.call.session_data import MAX_UUI_OCTETS, handover_headers


@given(st.text(max_size=400))
def test_user_to_user_fits(reason: str):
    headers = dict(handover_headers("0" * 32, reason, api_base=None))
    assert set(headers) == {"User-to-User"}
    hexed, encoding, purpose = headers["User-to-User"].split(";")
    payload = bytes.fromhex(hexed)
    assert len(payload) <= MAX_UUI_OCTETS
    assert (encoding, purpose) == ("encoding=hex", "purpose=ims-as-handover")
    decoded = json.loads(payload)
    assert decoded["id"] == "0" * 32
    assert reason.startswith(decoded["reason"])


def test_call_info():
    headers = dict(handover_headers("ab", "engine lost", api_base="http://10.0.0.1:8080"))
    assert headers["Call-Info"] == "<http://10.0.0.1:8080/calls/ab>;purpose=info"
