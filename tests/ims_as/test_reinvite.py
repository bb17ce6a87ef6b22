"""The back-off; whole re-INVITEs are in test_invite_session."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from ims_as.sip.reinvite import glare_delay


@given(st.integers(0, 2**64 - 1), st.booleans())
def test_glare_delay_is_in_the_range_of_the_rfc(token: int, is_caller: bool) -> None:
    """§14.1: 2.1 to 4 s for the owner of the Call-ID, 0 to 2 s for the other, in units of 10 ms."""
    delay = glare_delay(f"{token:016x}", is_caller=is_caller)
    assert (2.1 <= delay <= 4.0) if is_caller else (0.0 <= delay <= 2.0)
    assert round(delay * 100) == delay * 100 or abs(round(delay * 100) - delay * 100) < 1e-9


def test_both_ends_of_the_ranges_are_reached() -> None:
    assert {glare_delay(f"{n:08x}", is_caller=True) for n in range(191)} >= {2.1, 4.0}
    assert {glare_delay(f"{n:08x}", is_caller=False) for n in range(201)} >= {0.0, 2.0}
