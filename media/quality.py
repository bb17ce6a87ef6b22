"""How a call sounds, computed from what happened to it: the E-model of ITU-T G.107 and, for wideband, of G.107.1.

Pure.  ``R = Ro - Is - Id - Ie,eff + A``: a rating from 0 to about 93 (G.107, telephone band) or to 129 (G.107.1), from
which the mean opinion score follows.  All parameters but the codec, its loss and the delay have G.107's default values.
There is no talker echo: our end is a machine without an acoustic path.  The two scales are not the same: 4.1 on the
wideband scale is much better than 4.1 on the other, where it is what G.711 at its best would reach; `Rating.scale` says
which one it is.

The values per codec (`Impairment`) are those of G.113 Appendix I and IV where `is_planning_value` says so, and else
estimates from published listening tests or from a neighbouring codec.
"""

from __future__ import annotations

import math
from typing import Final

import attrs

__all__ = ["EModel", "Impairment", "Rating", "best_rating", "impairment_of", "mos_of", "r_of_mos", "rating"]

MAX_LOSS_PERCENT: Final = 100.0
WIDEBAND_R0: Final = 129.0
"""R of a clean wideband path (G.107.1): Ro,WB with all defaults."""
WIDEBAND_SCALE: Final = 1.29
"""G.107.1 Annex A: R of the wideband scale divided by it goes into the same formula for MOS."""
_IE_CEILING: Final = 95.0


@attrs.frozen(slots=True)
class Impairment:
    """What a codec costs.

    Attributes:
        ie: equipment impairment factor (Ie, or Ie,WB if ``is_wideband``), in R.
        bpl: packet-loss robustness, percent: at ``ppl = bpl`` random loss half of what is left of the quality is gone.
        is_wideband: on the scale of G.107.1.
        is_planning_value: both are in the tables of G.113; False: one of them is an estimate.
    """

    ie: float
    bpl: float
    is_wideband: bool = False
    is_planning_value: bool = False


@attrs.frozen(slots=True)
class Rating:
    """Quality of one direction.

    Attributes:
        r: transmission rating, 0–100, or 0–129 if ``scale`` is ``wb``.
        mos_lq: listening quality: without delay.
        mos_cq: conversational quality: with delay.
        scale: ``nb`` (G.107) or ``wb`` (G.107.1).
    """

    r: float
    mos_lq: float
    mos_cq: float
    scale: str

    @property
    def r_factor(self) -> int:
        """R as RFC 3611 §4.7.5 carries it, 0–100, whatever the scale."""
        r = self.r / WIDEBAND_SCALE if self.scale == "wb" else self.r
        return max(0, min(100, round(r)))


@attrs.frozen(slots=True)
class EModel:
    """G.107 (06/2015) with its input parameters by their names; the defaults are those of its Table 2.

    Levels and loudness ratings in dB (dBm0p, dB(A)), delays in ms, loss in percent.
    """

    slr: float = 8.0
    rlr: float = 2.0
    stmr: float = 15.0
    d_s: float = 3.0
    lstr: float = 18.0
    telr: float = 65.0
    wepl: float = 110.0
    qdu: float = 1.0
    n_c: float = -70.0
    n_for: float = -64.0
    p_s: float = 35.0
    p_r: float = 35.0
    advantage: float = 0.0
    mean_delay_ms: float = 0.0
    """T: one way, of the echo path."""
    round_trip_ms: float = 0.0
    """Tr: in the four-wire loop."""
    absolute_delay_ms: float = 0.0
    """Ta: from mouth to ear."""
    ie: float = 0.0
    bpl: float = 4.3
    ppl: float = 0.0
    burst_ratio: float = 1.0

    def noise(self) -> float:
        """No, equation 7-3: the sum of all noise, in dBm0p."""
        olr = self.slr + self.rlr
        n_os = self.p_s - self.slr - self.d_s - 100 + 0.004 * (self.p_s - olr - self.d_s - 14) ** 2
        p_re = self.p_r + 10 * math.log10(1 + 10 ** ((10 - self.lstr) / 10))
        n_or = self.rlr - 121 + p_re + 0.008 * (p_re - 35) ** 2
        n_fo = self.n_for + self.rlr
        return 10 * math.log10(sum(10 ** (n / 10) for n in (self.n_c, n_os, n_or, n_fo)))

    def basic_ratio(self) -> float:
        """Ro, equation 7-2: signal to noise."""
        return 15 - 1.5 * (self.slr + self.noise())

    def simultaneous(self) -> float:
        """Is, equation 7-8: too loud, sidetone, quantization."""
        x_olr = self.slr + self.rlr + 0.2 * (64 + self.noise() - self.rlr)
        i_olr = 20 * ((1 + (x_olr / 8) ** 8) ** (1 / 8) - x_olr / 8)
        q = 37 - 15 * math.log10(self.qdu)
        g = 1.07 + 0.258 * q + 0.0602 * q * q
        y = (self.basic_ratio() - 100) / 15 + 46 / 8.4 - g / 9
        z = 46 / 30 - g / 40
        i_q = 15 * math.log10(1 + 10**y + 10**z)
        return float(i_olr + self.sidetone() + i_q)

    def sidetone(self) -> float:
        """Ist, equation 7-12."""
        echo = math.exp(-self.mean_delay_ms / 4) * 10 ** (-self.telr / 10)
        stmr_o = -10 * math.log10(10 ** (-self.stmr / 10) + echo)
        return float(
            12 * (1 + ((stmr_o - 13) / 6) ** 8) ** (1 / 8)
            - 28 * (1 + ((stmr_o + 1) / 19.4) ** 35) ** (1 / 35)
            - 13 * (1 + ((stmr_o - 3) / 33) ** 13) ** (1 / 13)
            + 29
        )

    def delay(self) -> float:
        """Id, equation 7-17: talker echo, listener echo, and delay as such."""
        return self.talker_echo() + self.listener_echo() + absolute_delay(self.absolute_delay_ms)

    def talker_echo(self) -> float:
        """Idte, equations 7-18 to 7-24."""
        t = self.mean_delay_ms
        if t < 1:
            return 0.0
        terv = self.telr - 40 * math.log10((1 + t / 10) / (1 + t / 150)) + 6 * math.exp(-0.3 * t * t)
        if self.stmr < 9:
            terv += self.sidetone() / 2
        r_oe = -1.5 * (self.noise() - self.rlr)
        half = (r_oe - (80 + 2.5 * (terv - 14))) / 2
        i_dte = (half + math.sqrt(half * half + 100) - 1) * (1 - math.exp(-t))
        return math.hypot(i_dte, self.sidetone()) if self.stmr > 20 else i_dte

    def listener_echo(self) -> float:
        """Idle, equations 7-25 and 7-26."""
        half = (self.basic_ratio() - 10.5 * (self.wepl + 7) * (self.round_trip_ms + 1) ** -0.25) / 2
        return float(half + math.sqrt(half * half + 169))

    def equipment(self) -> float:
        """Ie,eff, equation 7-29."""
        return effective_impairment(self.ie, self.bpl, self.ppl, self.burst_ratio)

    def r(self) -> float:
        """The transmission rating, equation 7-1; not limited to its scale."""
        return self.basic_ratio() - self.simultaneous() - self.delay() - self.equipment() + self.advantage


def absolute_delay(delay_ms: float) -> float:
    """Idd, equations 7-27 and 7-28 with the default sensitivity (sT = 1, mT = 100 ms)."""
    if delay_ms <= 100:
        return 0.0
    x = math.log2(delay_ms / 100)
    return float(25 * ((1 + x**6) ** (1 / 6) - 3 * (1 + (x / 3) ** 6) ** (1 / 6) + 2))


def effective_impairment(ie: float, bpl: float, ppl: float, burst_ratio: float) -> float:
    """Ie,eff: what a codec costs at ``ppl`` percent of loss, which comes in bursts ``burst_ratio`` times as long as if
    each packet were lost by itself."""
    ppl = min(max(ppl, 0.0), MAX_LOSS_PERCENT)
    if ppl == 0:
        return ie
    return ie + (_IE_CEILING - ie) * ppl / (ppl / max(burst_ratio, 0.01) + bpl)


def mos_of(r: float) -> float:
    """Mean opinion score, 1 to 4.5, of a rating of the scale of G.107 (Annex B)."""
    if r <= 0:
        return 1.0
    if r >= 100:
        return 4.5
    return max(1.0, 1 + 0.035 * r + r * (r - 60) * (100 - r) * 7e-6)


def r_of_mos(mos: float) -> float:
    """The rating, 6.5 to 100, that gives a mean opinion score of 1 to 4.5 (G.107 Appendix I; beyond: the limit)."""
    mos = min(max(mos, 1.0), 4.5)
    h = math.atan2(15 * math.sqrt(max(0.0, -903522 + 1113960 * mos - 202500 * mos * mos)), 18566 - 6750 * mos) / 3
    return 20 / 3 * (8 - math.sqrt(226) * math.cos(h + math.pi / 3))


_G711: Final = Impairment(0, 25.1, is_planning_value=True)
_NARROW: Final[dict[str, Impairment]] = {
    # G.113 Table I.4: with the concealment of G.711 Appendix I, which ours is like
    "PCMU": _G711,
    "PCMA": _G711,
    # without any concealment
    "G711-NOPLC": Impairment(0, 4.3, is_planning_value=True),
    # G.113 Table I.4: G.729A with VAD
    "G729": Impairment(11, 19.0, is_planning_value=True),
    "GSM-EFR": Impairment(5, 10.0, is_planning_value=True),
    "G723": Impairment(15, 16.1, is_planning_value=True),
}
_AMR: Final = (21.0, 19.5, 16.5, 13.7, 11.6, 10.0, 6.0, 5.0)
"""Ie per mode, 4.75 to 12.2 kbit/s: 12.2 is GSM-EFR's, the others are estimates from tolerable delays that were
published per mode, read back through the model."""
_AMR_BPL: Final = 10.0
"""GSM-EFR's, whose concealment AMR's is."""
_AMR_WB: Final = (41.0, 26.0, 13.0, 10.0, 7.0, 5.0, 4.0, 1.0, 8.0)
"""Ie,WB per mode, 6.60 to 23.85 kbit/s (G.113 Appendix IV for G.722.2)."""
_AMR_WB_BPL: Final = 4.9
"""Estimate."""
_WIDE: Final[dict[str, Impairment]] = {
    "G722": Impairment(13, 4.9, is_wideband=True),  # Ie,WB of G.113 Appendix IV at 64 kbit/s, Bpl estimated
    "OPUS": Impairment(8, 10.0, is_wideband=True),  # at 24 kbit/s, 16 kHz, with error correction: both estimated
    "L16": Impairment(0, 4.3, is_wideband=True),  # nothing is coded; Bpl as G.711 without concealment
}
_DEFAULT_MODE: Final = {"AMR": 7, "AMR-WB": 2}
_UNKNOWN: Final = Impairment(15, 10.0)


def impairment_of(codec: str, mode: int | None = None) -> Impairment:
    """What a codec costs.

    Args:
        codec: as in rtpmap, any case.
        mode: of AMR and AMR-WB (index of RFC 4867 §3.6); None: 12.2 and 12.65 kbit/s.
    """
    name = codec.upper()
    if name in _DEFAULT_MODE:
        values, is_wide = (_AMR_WB, True) if name == "AMR-WB" else (_AMR, False)
        index = _DEFAULT_MODE[name] if mode is None or not 0 <= mode < len(values) else mode
        bpl = _AMR_WB_BPL if is_wide else _AMR_BPL
        return Impairment(values[index], bpl, is_wide, is_planning_value=not is_wide and index == _DEFAULT_MODE[name])
    return _NARROW.get(name) or _WIDE.get(name) or _UNKNOWN


def rating(
    codec: str,
    loss_percent: float,
    burst_ratio: float = 1.0,
    one_way_delay_ms: float = 0.0,
    mode: int | None = None,
) -> Rating:
    """The quality of one direction of a call.

    Args:
        codec: as in rtpmap, any case.
        loss_percent: packets lost on the way or come too late, of all that were sent; 0–100.
        burst_ratio: mean length of the runs of lost packets, by that of random loss as heavy; 1: random.
        one_way_delay_ms: from mouth to ear, as far as it is known.
        mode: of AMR and AMR-WB.
    """
    codec_impairment = impairment_of(codec, mode)
    loss = effective_impairment(codec_impairment.ie, codec_impairment.bpl, loss_percent, burst_ratio)
    delay = absolute_delay(max(0.0, one_way_delay_ms))
    if codec_impairment.is_wideband:
        listening, scale, most = WIDEBAND_R0 - loss, WIDEBAND_SCALE, WIDEBAND_R0
    else:
        listening, scale, most = _NARROW_R0 - loss, 1.0, 100.0
    r = min(max(listening - delay, 0.0), most)
    return Rating(
        r=round(r, 1),
        mos_lq=round(mos_of(listening / scale), 2),
        mos_cq=round(mos_of(r / scale), 2),
        scale="wb" if codec_impairment.is_wideband else "nb",
    )


def best_rating(codec: str, mode: int | None = None) -> Rating:
    """What the codec reaches at its best: no loss, no delay."""
    return rating(codec, 0.0, mode=mode)


_NARROW_R0: Final = EModel().r()
"""93.2: all defaults, nothing lost, no delay."""
