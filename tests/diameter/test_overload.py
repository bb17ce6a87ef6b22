"""DOIC, RFC 7683: reports, their life, and which requests they cost."""

from __future__ import annotations

import pytest

from diameter.avp import Avp, Avps
from diameter.dictionary import base
from diameter.dictionary.base import BASE
from diameter.dictionary.sh import SH, SH_APPLICATION_ID
from diameter.errors import RemoteDiameterError
from diameter.message import Message
from diameter.overload import SUPPORTED_FEATURES, OverloadControl, ReportType, report_avps


def answer(*avps: Avp, host: str = "hss", realm: str = "Realm") -> Message:
    identity = [base.ORIGIN_HOST.avp(host), base.ORIGIN_REALM.avp(realm)]
    return SH.command("UDA").message([base.RESULT_CODE.avp(2001), *identity, *avps])


def learn(control: OverloadControl, *, now: float = 0.0, **report: int | None) -> bool:
    settings = {"sequence": 1, "kind": ReportType.HOST} | report
    return control.learn_untrusted(answer(*report_avps(**settings)), now=now)  # type: ignore[arg-type]


def n_throttled(control: OverloadControl, n: int, *, now: float = 1.0) -> int:
    return sum(control.throttles_host(SH_APPLICATION_ID, "HSS", now=now) for _ in range(n))


def test_what_we_offer() -> None:
    assert not SUPPORTED_FEATURES.is_mandatory
    assert SUPPORTED_FEATURES.encode().hex() == "0000026d00000018" + "0000026e00000010" + "0000000000000001"


@pytest.mark.parametrize("reduction", [0, 1, 10, 33, 50, 99, 100])
def test_loss_is_exact_and_spread(reduction: int) -> None:
    control = OverloadControl()
    learn(control, reduction=reduction)
    assert n_throttled(control, 100) == reduction
    found = [n_throttled(control, 10) for _ in range(10)]
    assert max(found) - min(found) <= 1


def test_other_hosts_and_applications_are_not_meant() -> None:
    control = OverloadControl()
    learn(control, reduction=100)
    assert not control.throttles_host(SH_APPLICATION_ID, "other", now=1.0)
    assert not control.throttles_host(16777216, "hss", now=1.0)
    assert not control.throttles_realm(SH_APPLICATION_ID, "realm", now=1.0)


def test_realm_report() -> None:
    control = OverloadControl()
    assert learn(control, kind=ReportType.REALM, reduction=100)
    assert control.throttles_realm(SH_APPLICATION_ID, "REALM", now=1.0)
    assert not control.throttles_host(SH_APPLICATION_ID, "hss", now=1.0)
    assert control.reductions(now=1.0) == {"realm": 100}
    assert control.reductions(now=30.0) == {}


@pytest.mark.parametrize(
    ("validity_s", "end"), [(None, 30.0), (5, 5.0), (86_400, 86_400.0), (86_401, 30.0), (4_000_000_000, 30.0)]
)
def test_validity(validity_s: int | None, end: float) -> None:
    control = OverloadControl()
    learn(control, reduction=100, validity_s=validity_s)
    assert n_throttled(control, 1, now=end - 0.01) == 1
    assert n_throttled(control, 1, now=end) == 0
    assert len(control.states) == 0


def test_validity_of_zero_ends_the_overload() -> None:
    control = OverloadControl()
    learn(control, reduction=100)
    assert learn(control, sequence=2, validity_s=0, now=1.0)
    assert n_throttled(control, 10) == 0
    assert not learn(control, sequence=3, validity_s=0, now=1.0)


def test_only_newer_reports_count() -> None:
    control = OverloadControl()
    learn(control, sequence=5, reduction=100)
    assert not learn(control, sequence=5, reduction=0)
    assert not learn(control, sequence=4, reduction=0)
    assert n_throttled(control, 1) == 1
    assert learn(control, sequence=6, reduction=0, now=1.0)
    assert n_throttled(control, 10) == 0
    # after its end, what the host counts from is its own affair
    assert learn(control, sequence=1, reduction=100, now=40.0)


def test_reduction_default_and_bounds() -> None:
    control = OverloadControl()
    assert learn(control, reduction=None)
    assert n_throttled(control, 100) == 0
    assert not learn(control, sequence=2, reduction=101)


def test_report_without_supported_features_is_ignored() -> None:
    control = OverloadControl()
    report = report_avps(sequence=1, kind=ReportType.HOST, reduction=100)[1]
    assert not control.learn_untrusted(answer(report), now=0.0)
    assert not control.learn_untrusted(answer(), now=0.0)


@pytest.mark.parametrize(
    "members",
    [
        [],
        [BASE["OC-Sequence-Number"].avp(1)],
        [BASE["OC-Report-Type"].avp(0)],
        [BASE["OC-Sequence-Number"].avp(1), BASE["OC-Report-Type"].avp(2)],
        [Avp(624, b"123"), BASE["OC-Report-Type"].avp(0)],
    ],
)
def test_reports_that_cannot_be_read(members: list[Avp]) -> None:
    control = OverloadControl()
    with pytest.raises(RemoteDiameterError):
        control.learn_untrusted(answer(SUPPORTED_FEATURES, BASE["OC-OLR"].avp(members)), now=0.0)
    assert len(control.states) == 0


def test_report_of_nobody() -> None:
    avps = Avps(report_avps(sequence=1, kind=ReportType.HOST))
    with pytest.raises(RemoteDiameterError):
        OverloadControl().learn_untrusted(Message(306, SH_APPLICATION_ID, 0x40, avps), now=0.0)


def test_states_are_bounded() -> None:
    control = OverloadControl(max_states=3)
    for number in range(5):
        avps = report_avps(sequence=1, kind=ReportType.HOST, reduction=100)
        control.learn_untrusted(answer(*avps, host=f"h{number}"), now=0.0)
    assert len(control.states) == 3
    assert not control.throttles_host(SH_APPLICATION_ID, "h1", now=1.0)
    assert control.throttles_host(SH_APPLICATION_ID, "h2", now=1.0)
