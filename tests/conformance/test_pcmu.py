import numpy as np

from conformance.lab import pcmu


def test_known_codes():
    # ITU-T G.711 table 2a: zero, the largest values, and one step in the middle
    assert pcmu.decode(bytes([0xFF, 0x7F, 0x80, 0x00])).tolist() == [0, 0, 32124, -32124]
    assert pcmu.encode(np.array([0, 32767, -32768, -1], np.int16)) == bytes([0xFF, 0x80, 0x00, 0x7F])


def test_every_code_survives():
    codes = bytes(c for c in range(256) if c != 0x7F)  # 0x7F is the second zero
    assert pcmu.encode(pcmu.decode(codes)) == codes


def test_error_is_within_half_a_step():
    samples = np.arange(-32768, 32768).astype(np.int16)
    error = np.abs(pcmu.decode(pcmu.encode(samples)).astype(int) - samples)
    magnitude = np.abs(samples.astype(int))
    assert np.all(error <= np.where(magnitude > 32635, 700, (magnitude + 132) / 32))
