"""Targets of the Diameter side: framing, messages and AVPs, typed Sh messages, capabilities, Sh-Data."""

from __future__ import annotations

from attrs import evolve

from diameter.avp import Avps, decode_avps_untrusted
from diameter.base_commands import SH_APPLICATION, BaseCommands, read_capabilities_untrusted
from diameter.dictionary.base import BASE
from diameter.dictionary.cx import CX
from diameter.dictionary.loader import AvpFormat
from diameter.dictionary.sh import SH, DataReference
from diameter.errors import FramingError, LocalDiameterError, RemoteDiameterError
from diameter.framing import HEADER_BYTES, MAX_MESSAGE_BYTES, MessageFramer
from diameter.message import Message, decode_message_untrusted
from diameter.overload import OverloadControl
from diameter.redirect import RedirectCache, read_redirection_untrusted
from diameter.sh.messages import (
    ProfileUpdateAnswer,
    ProfileUpdateRequest,
    PushNotificationAnswer,
    PushNotificationRequest,
    SubscribeNotificationsAnswer,
    SubscribeNotificationsRequest,
    UserDataAnswer,
    UserDataRequest,
)
from diameter.sh.userdata import ShData, find_deviations_untrusted, parse_sh_data_untrusted, write_sh_data
from diameter.tls import MAX_NAMES, certificate_hosts_untrusted
from tests.fuzz.diameter_seeds import (
    AGENT_MESSAGES,
    BASE_MESSAGES,
    CAPABILITIES,
    DIAMETER_TOKENS,
    SH_DATA,
    SH_MESSAGES,
    XML_TOKENS,
)
from tests.fuzz.target import Target
from tests.fuzz.xml import canonical, mend_xml

__all__ = ["DIAMETER_TARGETS", "whole"]

_DICTIONARIES = (BASE, SH, CX)
_OURS = BaseCommands("as.example.net", "example.net", "ims-as", 0, 1, (SH_APPLICATION,))
_REQUESTS = {
    each.COMMAND.code: each
    for each in (UserDataRequest, ProfileUpdateRequest, SubscribeNotificationsRequest, PushNotificationRequest)
}
_ANSWERS = {
    each.COMMAND.code: each
    for each in (UserDataAnswer, ProfileUpdateAnswer, SubscribeNotificationsAnswer, PushNotificationAnswer)
}
MAX_NESTING = 8


def whole(data: bytes) -> bytes:
    """The same bytes with a version and a length that fit, so that an input gets behind the framing.

    For half of them the lengths of AVPs are mended as well, or nearly all would end at the first one.
    """
    size = len(data) & ~3
    if size < HEADER_BYTES:
        return data
    mended = bytearray(data[:size])
    mended[:4] = b"\x01" + size.to_bytes(3)
    if data[-1] & 1:
        _mend_avps(mended)
    return bytes(mended)


def _mend_avps(message: bytearray) -> None:
    position, size = HEADER_BYTES, len(message)
    while size - position >= 12:
        length = int.from_bytes(message[position + 5 : position + 8])
        if not 12 <= length <= size - position:
            length = min(12 + length % 32, size - position)
            message[position + 5 : position + 8] = length.to_bytes(3)
        position += (length + 3) & ~3
    del message[position:]
    message[1:4] = len(message).to_bytes(3)


def read_stream(data: bytes) -> None:
    """However a stream is cut, it gives the same frames and ends the same way."""
    at_once = _frames((data,))
    cut = len(data) // 3
    assert _frames((data[:cut], data[cut : cut + 1], data[cut + 1 :])) == at_once
    if len(data) < 600:
        assert _frames(tuple(data[i : i + 1] for i in range(len(data)))) == at_once
    frames = [each for each in at_once if isinstance(each, bytes)]
    assert data.startswith(b"".join(frames))


def _frames(pieces: tuple[bytes, ...]) -> list[bytes | int]:
    framer = MessageFramer()
    told: list[bytes | int] = []
    for piece in pieces:
        framer.receive_bytes(piece)
        try:
            while (frame := framer.next_message_untrusted()) is not None:
                assert HEADER_BYTES <= len(frame) <= MAX_MESSAGE_BYTES
                told.append(frame)
        except FramingError as error:
            return [*told, error.result_code]
        assert framer.buffered_bytes < MAX_MESSAGE_BYTES
    return told


def read_message(data: bytes) -> None:
    """Written and read again it is the same; every value, group in group, is looked at; a fault can be answered."""
    try:
        message = decode_message_untrusted(whole(data))
    except RemoteDiameterError as error:
        if error.request is not None:
            _check_answer(error.request, error)
        raise
    assert decode_message_untrusted(message.encode()) == message
    message.result()
    _look(message.avps, 0)
    for dictionary in _DICTIONARIES:
        command = dictionary.find_command(message)
        if command is not None and message.is_request:
            try:
                dictionary.check_untrusted(message, command)
            except RemoteDiameterError as error:
                _check_answer(message, error)


def _look(avps: Avps, depth: int) -> None:
    assert decode_avps_untrusted(avps.encode()) == avps
    for avp in avps:
        for dictionary in _DICTIONARIES:
            definition = dictionary.avps_by_key.get(avp.key)
            if definition is None:
                continue
            try:
                value = definition.value(avp)
            except RemoteDiameterError:
                continue
            if definition.data_format is AvpFormat.GROUPED and depth < MAX_NESTING:
                _look(value, depth + 1)


def _check_answer(request: Message, error: RemoteDiameterError) -> None:
    answer = decode_message_untrusted(_OURS.error_answer(request, error).encode())
    assert not answer.is_request
    assert (answer.hop_by_hop, answer.end_to_end) == (request.hop_by_hop, request.end_to_end)
    result = answer.result()
    assert result is not None
    assert not result.is_success
    assert answer.is_error == (3000 <= result.code < 4000)


def read_sh_message(data: bytes) -> None:
    """A typed message, whichever command it is; what was read means the same when it is written again."""
    message = decode_message_untrusted(whole(data))
    if message.is_request:
        request = _REQUESTS.get(message.code)
        if request is None:
            raise RemoteDiameterError("another command")
        typed = request.read_untrusted(message)
        try:
            again = typed.to_message()
        except LocalDiameterError:
            return  # e.g. a User-Identity with two identities: read, never written
        assert request.read_untrusted(decode_message_untrusted(again.encode())) == typed
        return
    answer = _ANSWERS.get(message.code)
    if answer is None:
        raise RemoteDiameterError("another command")
    told = answer.read_untrusted(message)
    rewritten = told.to_answer(evolve(message, flags=0xC0))
    assert answer.read_untrusted(decode_message_untrusted(rewritten.encode())) == told


def read_capabilities(data: bytes) -> None:
    message = decode_message_untrusted(whole(data))
    capabilities = read_capabilities_untrusted(message)
    assert capabilities.origin_host
    assert capabilities.origin_realm
    capabilities.shares(_OURS.applications)
    if message.is_request:
        decode_message_untrusted(_OURS.cea(message, "127.0.0.30", 2001).encode())


def read_sh_data(data: bytes) -> None:
    """A document: what we take from it and write ourselves says the same."""
    try:
        found = parse_sh_data_untrusted(data)
    except RemoteDiameterError:
        # most mutations are no XML any more: what a lenient reader makes of them gets further
        found = parse_sh_data_untrusted(mend_xml(data))
    try:
        again = parse_sh_data_untrusted(write_sh_data(found))
    except LocalDiameterError:
        return  # service data that is plain text, values that XML cannot carry: read, never written
    assert _essence(again) == _essence(found)
    # what an AS may write keeps to the schema, whatever it was made from
    ours = again.select((DataReference.REPOSITORY_DATA, DataReference.PSI_ACTIVATION, DataReference.DSAI))
    # (service data is anybody's, unless it is a document of this very schema, which the validator then looks into)
    if not any(b"Sh-Data" in (item.service_data or b"") for item in ours.repository):
        assert find_deviations_untrusted(write_sh_data(ours)) == ()


def _essence(data: ShData) -> tuple[object, ...]:
    items = [(item.service_indication, item.sequence_number, canonical(item.service_data)) for item in data.repository]
    return items, data.scscf_name, canonical(data.ifcs), data.user_state, data.deleted_identities, data.psi_activation


def read_redirect(data: bytes) -> None:
    """Where an agent sends us: hosts that can be connected to."""
    message = decode_message_untrusted(whole(data))
    found = read_redirection_untrusted(message)
    cache, request = RedirectCache(), decode_message_untrusted(SH_MESSAGES[0])
    cache.store(found, request, None, now=0.0)
    assert cache.find(request, None, "dra.example.net", now=86_401.0) == ()
    for uri in found.hosts:
        assert 0 < len(uri.host) < 256
        assert uri.port is None or 0 < uri.port < 65536
        assert uri.transport in ("tcp", "tls", "sctp")


def read_overload(data: bytes) -> None:
    """What a host or a realm wants less of; never more than all of it."""
    message = decode_message_untrusted(whole(data))
    control = OverloadControl(max_states=4)
    control.learn_untrusted(message, now=0.0)
    for reduction in control.reductions(now=0.0).values():
        assert 0 <= reduction <= 100
    assert len(control.reductions(now=0.0)) <= 1
    assert not control.reductions(now=86_401.0)


_ALL_MESSAGES = (*SH_MESSAGES, *BASE_MESSAGES, *AGENT_MESSAGES)


def read_certificate(data: bytes) -> None:
    """The names in a certificate, a line each: kind, then value. What is found is in normal form and no wildcard."""
    lines = [line.partition(" ") for line in data.decode("utf-8", "replace").splitlines()]
    names = tuple((kind, value) for kind, _, value in lines)
    for certificate in ({"subjectAltName": names}, {"subject": (names,)}):
        hosts = certificate_hosts_untrusted(certificate)
        assert len(hosts) <= MAX_NAMES
        for host in hosts:
            assert host
            assert "*" not in host
            assert certificate_hosts_untrusted({"subjectAltName": (("DNS", host),)}) == {host}


CERTIFICATES = (
    b"DNS hss.example.net\nDNS HSS2.example.net.\nURI sip:example.net",
    b"IP Address 2001:DB8:0::1\nDNS *.example.net\ncommonName hss.example.net",
)

DIAMETER_TARGETS = (
    Target(
        "diameter-stream",
        read_stream,
        (),
        (*_ALL_MESSAGES, b"".join(_ALL_MESSAGES), b"".join(CAPABILITIES)),
        DIAMETER_TOKENS,
    ),
    Target("diameter-message", read_message, (RemoteDiameterError,), _ALL_MESSAGES, DIAMETER_TOKENS),
    Target("sh-message", read_sh_message, (RemoteDiameterError,), SH_MESSAGES, (*DIAMETER_TOKENS, *XML_TOKENS)),
    Target("diameter-capabilities", read_capabilities, (RemoteDiameterError,), CAPABILITIES, DIAMETER_TOKENS),
    Target("diameter-redirect", read_redirect, (RemoteDiameterError,), AGENT_MESSAGES[:1], DIAMETER_TOKENS),
    Target("diameter-overload", read_overload, (RemoteDiameterError,), AGENT_MESSAGES[1:], DIAMETER_TOKENS),
    Target("diameter-certificate", read_certificate, (), CERTIFICATES, (b"DNS ", b"IP Address ", b"commonName ", b"*")),
    Target("sh-data", read_sh_data, (RemoteDiameterError,), SH_DATA, XML_TOKENS),
)
