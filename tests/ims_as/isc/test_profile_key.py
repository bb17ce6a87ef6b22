import pytest

from ims_as.isc.profile_key import read_profile_key_untrusted
from ims_as.sip.message import Request

KEY = "sip:room-!.*!@example.net"


@pytest.mark.parametrize(
    ("values", "key"),
    [
        ([f"<{KEY}>"], KEY),
        ([f'"Rooms" <{KEY}>;p=1'], KEY),
        ([KEY], KEY),
        ([], None),
        (["<sip:room-1@example.net>"], None),  # no wildcard: nothing is gained by it
        ([f"<{KEY}>", "<sip:x!.!@y>"], None),
        (["<<"], None),
        ([""], None),
    ],
)
def test_the_key(values: list[str], key: str | None):
    request = Request("INVITE", "sip:x", [("P-Profile-Key", value) for value in values])
    assert read_profile_key_untrusted(request) == key
