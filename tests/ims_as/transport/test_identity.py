"""RFC 5922 §7, with certificates as `ssl` shows them."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ims_as.transport.identity import certificate_identities_untrusted, is_identity, normal_identity


def certificate(*names: tuple[str, str], common_name: str = "cn.example") -> dict[str, Any]:
    made: dict[str, Any] = {"subject": ((("countryName", "DE"),), (("commonName", common_name),))}
    if names:
        made["subjectAltName"] = names
    return made


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        ([("URI", "sip:Example.NET")], {"example.net"}),
        (
            [("URI", "sip:a.example"), ("URI", "sip:b.example;transport=tls"), ("DNS", "c.example")],
            {"a.example", "b.example"},
        ),
        ([("DNS", "c.example"), ("DNS", "D.example.")], {"c.example", "d.example"}),
        # neither other schemes nor users make an identity, and then the DNS name counts
        ([("URI", "sips:a.example"), ("URI", "sip:alice@a.example"), ("DNS", "c.example")], {"c.example"}),
        ([("URI", "https://a.example"), ("URI", "nonsense"), ("URI", "sip:")], set()),
        # no wildcards
        ([("DNS", "*.example.net")], set()),
        ([("DNS", "a.example\0.evil.net"), ("DNS", "a b"), ("DNS", "")], set()),
        ([("IP Address", "192.0.2.1"), ("IP Address", "2001:DB8:0:0:0:0:0:1\n")], {"192.0.2.1"}),
        ([("IP Address", "2001:DB8:0:0:0:0:0:1"), ("DNS", "c.example")], {"2001:db8::1", "c.example"}),
        # the common name counts only where there is no subjectAltName
        ([("email", "a@b.example")], set()),
        ([], {"cn.example"}),
    ],
)
def test_identities(names: list[tuple[str, str]], expected: set[str]) -> None:
    assert certificate_identities_untrusted(certificate(*names)) == expected


def test_common_name_that_is_no_domain() -> None:
    assert certificate_identities_untrusted(certificate(common_name="ACME Telecom")) == set()
    assert certificate_identities_untrusted(certificate(common_name="*.example")) == set()
    assert certificate_identities_untrusted({}) == set()


def test_number_of_names_is_bounded() -> None:
    many = certificate(*[("DNS", f"n{number}.example") for number in range(5000)])
    assert len(certificate_identities_untrusted(many)) == 256


def test_comparison_is_of_the_whole_name_in_any_case() -> None:
    identities = frozenset({"example.net", "2001:db8::1"})
    assert is_identity(identities, "EXAMPLE.net.")
    assert is_identity(identities, "[2001:DB8::0:1]")
    assert not is_identity(identities, "a.example.net")
    assert not is_identity(identities, "net")
    assert not is_identity(identities, "")
    assert not is_identity(frozenset({""}), "*")


@given(
    st.lists(st.tuples(st.sampled_from(["URI", "DNS", "IP Address", "x"]), st.text(max_size=300))),
    st.text(max_size=300),
)
def test_anything_may_stand_in_a_certificate(names: list[tuple[str, str]], common_name: str) -> None:
    for identity in certificate_identities_untrusted(certificate(*names, common_name=common_name)):
        assert normal_identity(identity) == identity
