"""The table of Data-References: the whole of it against TS 29.328 Table 7.6.1, and what is refused before sending."""

from __future__ import annotations

import pytest

from diameter.dictionary.sh import DataReference, RequestedDomain, RequestedNodes
from diameter.errors import LocalDiameterError
from diameter.sh.data_reference import REFERENCE_RULES, Identity, Operation, ShKeys, check_request, rule_of
from diameter.sh.messages import CallReferenceInfo, UserIdentity

IMPU = UserIdentity("sip:bob@example.net")
MSISDN = UserIdentity(msisdn="15550100")
EXTERNAL = UserIdentity(external_identifier="bob@example.net")
CS, PS = RequestedDomain.CS, RequestedDomain.PS
KEYS = {
    0: ShKeys(service_indications=["ai"]),
    13: ShKeys(server_name="sip:as"),
    14: ShKeys(requested_domain=PS, current_location=0),
    15: ShKeys(requested_domain=CS),
    19: ShKeys(server_name="sip:as", dsai_tags=["t"]),
}
# reference: operations of Table 7.6.1, identities by which it may be asked
TABLE = """
0 pus i | 10 ps ime | 11 ps i | 12 ps i | 13 ps i | 14 p ime | 15 p ime | 16 ps ime | 17 p ime | 18 pus i | 19 pus i
| 21 ps ime | 22 ps i | 23 ps i | 24 pu ime | 25 s ime | 26 p im | 27 pu im | 28 ps im | 29 ps i | 30 p im | 31 p i
| 32 p ime | 33 ps i | 34 p ime | 35 ps im
"""
LETTERS = {"p": Operation.PULL, "u": Operation.UPDATE, "s": Operation.SUBSCRIBE}
IDENTITIES = {"i": (IMPU, Identity.PUBLIC), "m": (MSISDN, Identity.MSISDN), "e": (EXTERNAL, Identity.EXTERNAL)}


def test_table_has_every_reference() -> None:
    assert set(REFERENCE_RULES) == set(DataReference)
    assert {int(row.split()[0]) for row in TABLE.split("|")} == {int(each) for each in DataReference}
    with pytest.raises(LocalDiameterError):
        rule_of(20)


@pytest.mark.parametrize("row", [row.split() for row in TABLE.split("|")], ids=lambda row: row[0])
def test_operations_and_identities(row: list[str]) -> None:
    reference = int(row[0])
    for letter, operation in LETTERS.items():
        for kind, (identity, _) in IDENTITIES.items():
            keys = KEYS.get(reference, ShKeys())
            if letter in row[1] and kind in row[2]:
                assert check_request(operation, identity, (reference,), keys)[0].reference == reference
            else:
                with pytest.raises(LocalDiameterError):
                    check_request(operation, identity, (reference,), keys)


@pytest.mark.parametrize("reference", sorted(KEYS))
def test_keys_that_are_needed(reference: int) -> None:
    with pytest.raises(LocalDiameterError, match="wants"):
        check_request(Operation.PULL, IMPU, (reference,))


def test_update_has_its_keys_in_the_document() -> None:
    assert check_request(Operation.UPDATE, IMPU, (0,))
    assert check_request(Operation.UPDATE, IMPU, (19,))


@pytest.mark.parametrize(
    ("references", "keys"),
    [
        ((), ShKeys()),
        ((11, 11), ShKeys()),
        ((20,), ShKeys()),
        ((11,), ShKeys(service_indications=["ai"])),
        ((11,), ShKeys(private_identity="bob@example.net")),
        ((15,), ShKeys(requested_domain=CS, requested_nodes=RequestedNodes.MME)),
        ((11,), ShKeys(identity_sets=[0])),
    ],
)
def test_what_makes_no_sense_is_refused(references: tuple[int, ...], keys: ShKeys) -> None:
    with pytest.raises(LocalDiameterError):
        check_request(Operation.PULL, IMPU, references, keys)


@pytest.mark.parametrize("identity", [UserIdentity(), UserIdentity("sip:a", "1"), UserIdentity("")])
def test_one_identity(identity: UserIdentity) -> None:
    with pytest.raises(LocalDiameterError):
        check_request(Operation.PULL, identity, (17,))


def test_keys_become_avps() -> None:
    keys = ShKeys(
        requested_domain=PS,
        current_location=1,
        requested_nodes=RequestedNodes.MME | RequestedNodes.AMF,
        serving_node_only=True,
        pre_paging=False,
        call_reference=(b"\1", b"\2"),
        private_identity="bob@example.net",
        wildcard="sip:room-!.*!@example.net",
    )
    avps = keys.avps(Operation.PULL)
    assert (avps["requested_nodes"], avps["serving_node_indication"], avps["pre_paging_supported"]) == (9, 0, 0)
    assert avps["call_reference_info"] == CallReferenceInfo(b"\1", b"\2")
    assert keys.avps(Operation.UPDATE) == {
        "user_name": "bob@example.net",
        "wildcarded_public_identity": "sip:room-!.*!@example.net",
    }
    assert "requested_domain" not in keys.avps(Operation.SUBSCRIBE)
