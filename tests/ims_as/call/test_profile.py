"""The host of a URI, as Routes and ServerNames are compared."""

import pytest

from ims_as.call.profile import host_of


@pytest.mark.parametrize(
    ("uri", "host"),
    [
        ("sip:ai-as.example.net", "ai-as.example.net"),
        ("sip:term@AI-AS.example.net:5060;transport=tcp;lr", "ai-as.example.net"),
        ("sip:[2001:db8::1]:5060;lr", "[2001:db8::1]"),
        ("sips:a@b", "b"),
    ],
)
def test_host_of(uri: str, host: str):
    assert host_of(uri) == host
