"""Garbage for every kind of port: crafted, random and mutated messages, and the guns that shoot them."""

from __future__ import annotations

import random
import socket

import trio

__all__ = ["INVITE", "shoot_datagrams", "shoot_streams", "shots"]

SHOTS = 300
INVITE = (
    b"INVITE sip:bob@ims.example.net SIP/2.0\r\nVia: SIP/2.0/UDP 127.0.0.1:9;branch=z9hG4bK1\r\nMax-Forwards: 70\r\n"
    b"From: <sip:a@b>;tag=1\r\nTo: <sip:bob@ims.example.net>\r\nCall-ID: garbage\r\nCSeq: 1 INVITE\r\n"
    b"Contact: <sip:a@127.0.0.1>\r\nContent-Type: application/sdp\r\nContent-Length: 9\r\n\r\nv=0\r\no=\r\n"
)
"""Its description is nonsense: an INVITE without one would be a call that somebody has to end."""
DWR = bytes.fromhex("010000408000011800000000000000010000000200000108400000166173") + b".example.net\x00\x00"
CRAFTED = [
    b"",
    b"\x00" * 65000,
    INVITE.replace(b"Content-Length: 9", b"Content-Length: 70000"),
    INVITE.replace(b"Content-Length: 9", b"Content-Length: -1"),
    INVITE.replace(b"CSeq: 1 INVITE", b"CSeq: 1 BYE"),
    INVITE.replace(b"CSeq: 1 INVITE", b"CSeq: 1 INVITE\r\nCSeq: 2 INVITE"),
    INVITE.replace(b"Call-ID: garbage", b"Call-ID: gar\x00bage"),
    INVITE.replace(b"Via:", b"X" * 60000 + b":"),
    INVITE.replace(b"SIP/2.0\r\n", b"SIP/7.0\r\n", 1),
    INVITE.replace(b"sip:bob@ims.example.net SIP", b"sip:bob@[::1 SIP"),
    DWR[:20],
    b"\x01\xff\xff\xff" + DWR[4:],
    b"\x01\x00\x00\x04" + DWR[4:],
    b"GET / HTTP/1.1\r\nUpgrade: websocket\r\n\r\n",
    b"\x80\x00" + b"\x01" * 170,
]


def shots(seed: int) -> list[bytes]:
    dice = random.Random(seed)
    result = list(CRAFTED)
    while len(result) < SHOTS:
        if dice.random() < 0.5:
            result.append(dice.randbytes(dice.randrange(1, 1400)))
        else:
            message = bytearray(dice.choice((INVITE, DWR)))
            for _ in range(dice.randrange(1, 30)):
                message[dice.randrange(len(message))] = dice.randrange(256)
            result.append(bytes(message))
    return result


async def shoot_datagrams(host: str, address: tuple[str, int], *, pause_s: float = 0.0) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as gun:
        gun.bind((host, 0))
        for shot in shots(1):
            if len(shot) <= 65000:
                gun.sendto(shot, address)
            await trio.sleep(pause_s)


async def shoot_streams(address: tuple[str, int], *, every: int = 1, pause_s: float = 0.0) -> None:
    """Each shot on a connection of its own, which is closed at once."""
    for shot in shots(2)[::every]:
        try:
            stream = await trio.open_tcp_stream(*address)
            async with stream:
                await stream.send_all(shot)
        except OSError:
            continue
        await trio.sleep(pause_s)
