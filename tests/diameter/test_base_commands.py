"""CER/CEA, DWR/DWA and DPR/DPA as built and read."""

from __future__ import annotations

import pytest
from pycrate_diameter.Diameter3GPP import Diameter3GPP

from diameter.base_commands import (
    CX_APPLICATION,
    SH_APPLICATION,
    Application,
    BaseCommands,
    read_capabilities_untrusted,
)
from diameter.dictionary import base
from diameter.dictionary.base import BASE, RELAY_APPLICATION_ID, DisconnectCause
from diameter.errors import RemoteDiameterError
from diameter.message import Message

COMMANDS = BaseCommands("as.example.net", "example.net", "ims-as", 0, 1234, (SH_APPLICATION, Application(3, 0, True)))


def check(message: Message) -> None:
    command = BASE.find_command(message)
    assert command is not None
    BASE.check_untrusted(message, command)
    decoder = Diameter3GPP()
    decoder.from_bytes(message.encode())
    assert decoder.to_bytes() == message.encode()


def test_capabilities_survive_the_exchange() -> None:
    cer = COMMANDS.cer("127.0.0.1")
    check(cer)
    check(COMMANDS.cea(cer, "::1", 2001))
    capabilities = read_capabilities_untrusted(cer)
    assert (capabilities.origin_host, capabilities.origin_realm) == ("as.example.net", "example.net")
    assert capabilities.applications == {16777217, 3}
    assert (capabilities.product_name, capabilities.origin_state_id) == ("ims-as", 1234)


def test_base_commands_follow_the_notation() -> None:
    for message in (COMMANDS.dwr(), COMMANDS.dpr(DisconnectCause.BUSY)):
        assert message.flags == 0x80
        check(message)
    check(COMMANDS.dwa(COMMANDS.dwr()))
    check(COMMANDS.dpa(COMMANDS.dpr(DisconnectCause.BUSY)))


def test_application_counts_wherever_it_is_announced() -> None:
    identity = COMMANDS.identity()
    plain = BASE.command("CEA").message([*identity, base.AUTH_APPLICATION_ID.avp(16777217)])
    assert read_capabilities_untrusted(plain).shares((SH_APPLICATION,))
    assert not read_capabilities_untrusted(plain).shares((CX_APPLICATION,))
    relay = BASE.command("CEA").message([*identity, base.AUTH_APPLICATION_ID.avp(RELAY_APPLICATION_ID)])
    assert read_capabilities_untrusted(relay).shares((CX_APPLICATION,))


def test_no_identity_no_peer() -> None:
    with pytest.raises(RemoteDiameterError) as caught:
        read_capabilities_untrusted(BASE.command("CER").message([base.ORIGIN_HOST.avp("a")]))
    assert caught.value.result_code == 5005


@pytest.mark.parametrize(("code", "is_error"), [(3001, True), (3007, True), (5012, False), (5005, False)])
def test_protocol_errors_have_the_e_bit(code: int, is_error: bool) -> None:
    answer = COMMANDS.error_answer(COMMANDS.dwr(), RemoteDiameterError("why", code))
    assert answer.is_error == is_error
    assert answer.number(base.RESULT_CODE) == code
    assert answer.text(base.ERROR_MESSAGE) == "why"
