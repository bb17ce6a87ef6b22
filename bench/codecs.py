"""What the codecs cost: ``python -m bench.codecs``.

µs of CPU for 20 ms of speech through a leg's `CodedStream` (packet payload to samples and back), beside the bare calls
into the codec's library with the same frames in the same run. The share is bare ÷ ours: 100 % would mean that
everything around the library is free.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import attrs
import numpy as np
from numpy.typing import NDArray

from media.clips import read_file
from media.codecs import amr, g722, g729, opus
from media.codecs.native import load_library
from media.codecs.registry import find_codec
from media.coded import CodedStream
from media.rtp import RtpPacket

SPEECH = Path(__file__).parents[1] / "conformance" / "lab" / "audio" / "jfk.wav"
SECONDS: Final = 4
ROUNDS: Final = 7
CODECS: Final = (("AMR-WB", 16000), ("AMR", 8000), ("opus", 48000), ("G722", 8000), ("G729", 8000))


@attrs.frozen
class Bare:
    """Calls of a library: one frame each, in the order of the speech."""

    encode: Callable[[Any], object]
    decode: Callable[[bytes], object]


def bare_of(name: str) -> Bare:
    """The library's calls with nothing around them but a pointer."""
    match name:
        case "AMR-WB":
            return _amr_wb()
        case "AMR":
            return _amr()
        case "opus":
            return _opus()
        case "G722":
            return _g722()
        case _:
            return _g729()


def _amr_wb() -> Bare:
    ffi, decoder = load_library(amr._WIDE_DECODER, "libopencore-amrwb.so.0")
    encoder_ffi, encoder = load_library(amr._WIDE_ENCODER, "libvo-amrwbenc.so.0")
    out, samples = encoder_ffi.new("unsigned char[64]"), ffi.new("short[320]")
    coding, decoding = encoder.E_IF_init(), decoder.D_IF_init()
    return Bare(
        lambda speech: encoder.E_IF_encode(coding, 2, encoder_ffi.cast("short *", speech), out, 1),
        lambda frame: decoder.D_IF_decode(decoding, frame, samples, 0),
    )


def _amr() -> Bare:
    ffi, library = load_library(amr._NARROW, "libopencore-amrnb.so.0")
    out, samples = ffi.new("unsigned char[64]"), ffi.new("short[160]")
    coding, decoding = library.Encoder_Interface_init(1), library.Decoder_Interface_init()
    return Bare(
        lambda speech: library.Encoder_Interface_Encode(coding, 7, ffi.cast("short *", speech), out, 0),
        lambda frame: library.Decoder_Interface_Decode(decoding, frame, samples, 0),
    )


def _opus() -> Bare:
    ffi, library = load_library(opus._DECLARATIONS, "libopus.so.0")
    out, samples = ffi.new("unsigned char[1275]"), ffi.new("int16_t[1920]")
    coding = library.opus_encoder_create(16000, 1, opus._VOIP, ffi.NULL)
    for request, value in opus._settings({"useinbandfec": "1"}).items():
        library.opus_encoder_ctl(coding, request, ffi.cast("int", value))
    decoding = library.opus_decoder_create(16000, 1, ffi.NULL)
    return Bare(
        lambda speech: library.opus_encode(coding, ffi.cast("int16_t *", speech), 320, out, 1275),
        lambda frame: library.opus_decode(decoding, frame, len(frame), samples, 1920, 0),
    )


def _g722() -> Bare:
    ffi, library = load_library(g722._DECLARATIONS, "libspandsp.so.2")
    out, samples = ffi.new("unsigned char[160]"), ffi.new("short[320]")
    coding, decoding = (init(ffi.NULL, 64000, 0) for init in (library.g722_encode_init, library.g722_decode_init))
    return Bare(
        lambda speech: library.g722_encode(coding, out, ffi.cast("short *", speech), 320),
        lambda frame: library.g722_decode(decoding, samples, frame, 160),
    )


def _g729() -> Bare:
    ffi, library = load_library(g729._DECLARATIONS, "libbcg729.so.0")
    out, size, samples = ffi.new("uint8_t[10]"), ffi.new("uint8_t *"), ffi.new("int16_t[160]")
    coding, decoding = library.initBcg729EncoderChannel(0), library.initBcg729DecoderChannel()

    def encode(speech: int) -> None:
        for at in (0, 160):
            library.bcg729Encoder(coding, ffi.cast("int16_t *", speech + at), out, size)

    def decode(frames: bytes) -> None:
        for at in range(0, len(frames), 10):
            library.bcg729Decoder(decoding, frames[at : at + 10], 10, 0, 0, 0, samples)

    return Bare(encode, decode)


def _us_each(work: Callable[[Any], object], inputs: list[Any]) -> float:
    began = time.process_time()
    for each in inputs:
        work(each)
    return (time.process_time() - began) / len(inputs) * 1e6


def _pieces(samples: NDArray[Any], size: int) -> Iterator[NDArray[Any]]:
    for at in range(0, len(samples) - size + 1, size):
        yield samples[at : at + size]


def measure(name: str, clock_hz: int, rounds: int = ROUNDS) -> tuple[float, float, float, float]:
    """(our encode, bare encode, our decode, bare decode), the least of the rounds, which alternate."""
    codec = find_codec(name, clock_hz)
    if codec is None:
        raise SystemExit(f"{name}: its library is not installed")
    parameters = {"useinbandfec": "1"} if name == "opus" else {}
    said = read_file(SPEECH, codec.sample_rate_hz)[: SECONDS * codec.sample_rate_hz]
    lines = [piece.astype(np.float32) for piece in _pieces(said, codec.frame_samples)]
    source = CodedStream(codec, parameters, parameters)
    packets, frames = [], []
    for number, line in enumerate(lines):
        payload = source.encode(line)
        if payload is not None:
            packets.append(RtpPacket(98, False, number, number * codec.frame_timestamps, 5, payload))
            unpacked = codec.receive_format(parameters).unpack_untrusted(payload)
            frames.append(b"".join(frame for frame in unpacked.frames if frame))
    source.close()
    best = [float("inf")] * 4
    for _ in range(rounds):
        stream, bare = CodedStream(codec, parameters, parameters), bare_of(name)

        def hear(packet: RtpPacket, stream: CodedStream = stream) -> None:
            for item in stream.receive_untrusted(packet, 0, 0):
                list(stream.decode(item))

        kept = [piece.copy() for piece in _pieces(said, codec.frame_samples)]  # a coder may write into its input
        times = (
            _us_each(stream.encode, lines),
            _us_each(bare.encode, [piece.ctypes.data for piece in kept]),
            _us_each(hear, packets),
            _us_each(bare.decode, frames),
        )
        best = [min(pair) for pair in zip(best, times, strict=True)]
        stream.close()
    return best[0], best[1], best[2], best[3]


def main() -> None:
    head = ["codec", "encode µs", "library", "share", "decode µs", "library", "share", "both", "legs a core"]
    print("| " + " | ".join(head) + " |")
    print("| " + " | ".join(["---"] * len(head)) + " |")
    for name, clock_hz in CODECS:
        encode, bare_encode, decode, bare_decode = measure(name, clock_hz)
        both = encode + decode
        cells = [name, f"{encode:.1f}", f"{bare_encode:.1f}", f"{bare_encode / encode:.0%}"]
        cells += [f"{decode:.1f}", f"{bare_decode:.1f}", f"{bare_decode / decode:.0%}"]
        cells += [f"**{(bare_encode + bare_decode) / both:.0%}**", f"{20000 / both:.0f}"]
        print("| " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    main()
