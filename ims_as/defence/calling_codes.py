"""Which country, and which kind of service, a number in E.164 form belongs to.

Written down from general knowledge of ITU-T E.164 assignments; national premium-rate ranges are those that are widely
known, and no list of them is ever complete. What an operator needs beyond it goes into `policy.destinations`.

A country is named by its letters of ISO 3166-1 (AC: Ascension, XK: Kosovo, by usage). The longest prefix wins.
"""

from __future__ import annotations

from typing import Final, NamedTuple

__all__ = ["COUNTRIES", "GROUPS", "NumberInfo", "country_of", "groups_of", "split_code"]

# prefix(es) without "+", letters, name. NANP: +1 alone is the United States, Canada and the islands by area code.
_TABLE: Final = """
1 US United States
1204,1226,1236,1249,1250,1257,1263,1289,1306,1343,1354,1365,1367,1368,1382,1387,1403,1416,1418,1428 CA Canada
1431,1437,1438,1450,1460,1468,1474,1506,1514,1519,1537,1548,1568,1579,1581,1584,1587,1604,1613,1639 CA Canada
1647,1672,1683,1705,1709,1742,1753,1778,1780,1782,1807,1819,1825,1851,1867,1873,1879,1902,1905,1942 CA Canada
1242 BS Bahamas
1246 BB Barbados
1264 AI Anguilla
1268 AG Antigua and Barbuda
1284 VG British Virgin Islands
1340 VI United States Virgin Islands
1345 KY Cayman Islands
1441 BM Bermuda
1473 GD Grenada
1649 TC Turks and Caicos Islands
1658,1876 JM Jamaica
1664 MS Montserrat
1670 MP Northern Mariana Islands
1671 GU Guam
1684 AS American Samoa
1721 SX Sint Maarten
1758 LC Saint Lucia
1767 DM Dominica
1784 VC Saint Vincent and the Grenadines
1787,1939 PR Puerto Rico
1809,1829,1849 DO Dominican Republic
1868 TT Trinidad and Tobago
1869 KN Saint Kitts and Nevis
20 EG Egypt
211 SS South Sudan
212 MA Morocco
213 DZ Algeria
216 TN Tunisia
218 LY Libya
220 GM Gambia
221 SN Senegal
222 MR Mauritania
223 ML Mali
224 GN Guinea
225 CI Ivory Coast
226 BF Burkina Faso
227 NE Niger
228 TG Togo
229 BJ Benin
230 MU Mauritius
231 LR Liberia
232 SL Sierra Leone
233 GH Ghana
234 NG Nigeria
235 TD Chad
236 CF Central African Republic
237 CM Cameroon
238 CV Cape Verde
239 ST Sao Tome and Principe
240 GQ Equatorial Guinea
241 GA Gabon
242 CG Congo
243 CD Democratic Republic of the Congo
244 AO Angola
245 GW Guinea-Bissau
246 IO British Indian Ocean Territory
247 AC Ascension
248 SC Seychelles
249 SD Sudan
250 RW Rwanda
251 ET Ethiopia
252 SO Somalia
253 DJ Djibouti
254 KE Kenya
255 TZ Tanzania
256 UG Uganda
257 BI Burundi
258 MZ Mozambique
260 ZM Zambia
261 MG Madagascar
262 RE Reunion
262269,262639 YT Mayotte
263 ZW Zimbabwe
264 NA Namibia
265 MW Malawi
266 LS Lesotho
267 BW Botswana
268 SZ Eswatini
269 KM Comoros
27 ZA South Africa
290 SH Saint Helena
291 ER Eritrea
297 AW Aruba
298 FO Faroe Islands
299 GL Greenland
30 GR Greece
31 NL Netherlands
32 BE Belgium
33 FR France
34 ES Spain
350 GI Gibraltar
351 PT Portugal
352 LU Luxembourg
353 IE Ireland
354 IS Iceland
355 AL Albania
356 MT Malta
357 CY Cyprus
358 FI Finland
35818 AX Aland Islands
359 BG Bulgaria
36 HU Hungary
370 LT Lithuania
371 LV Latvia
372 EE Estonia
373 MD Moldova
374 AM Armenia
375 BY Belarus
376 AD Andorra
377 MC Monaco
378 SM San Marino
379,3906698 VA Vatican City
380 UA Ukraine
381 RS Serbia
382 ME Montenegro
383 XK Kosovo
385 HR Croatia
386 SI Slovenia
387 BA Bosnia and Herzegovina
389 MK North Macedonia
39 IT Italy
40 RO Romania
41 CH Switzerland
420 CZ Czechia
421 SK Slovakia
423 LI Liechtenstein
43 AT Austria
44 GB United Kingdom
441481,447781,447839,447911 GG Guernsey
441534,447509,447700,447797,447829,447937 JE Jersey
441624,447524,447624,447924 IM Isle of Man
45 DK Denmark
46 SE Sweden
47 NO Norway
4779 SJ Svalbard and Jan Mayen
48 PL Poland
49 DE Germany
500 FK Falkland Islands
501 BZ Belize
502 GT Guatemala
503 SV El Salvador
504 HN Honduras
505 NI Nicaragua
506 CR Costa Rica
507 PA Panama
508 PM Saint Pierre and Miquelon
509 HT Haiti
51 PE Peru
52 MX Mexico
53 CU Cuba
54 AR Argentina
55 BR Brazil
56 CL Chile
57 CO Colombia
58 VE Venezuela
590 GP Guadeloupe
591 BO Bolivia
592 GY Guyana
593 EC Ecuador
594 GF French Guiana
595 PY Paraguay
596 MQ Martinique
597 SR Suriname
598 UY Uruguay
599 BQ Caribbean Netherlands
5999 CW Curacao
60 MY Malaysia
61 AU Australia
6189162 CX Christmas Island
6189164 CC Cocos Islands
62 ID Indonesia
63 PH Philippines
64 NZ New Zealand
65 SG Singapore
66 TH Thailand
670 TL East Timor
672 NF Norfolk Island
6721 AQ Antarctica
673 BN Brunei
674 NR Nauru
675 PG Papua New Guinea
676 TO Tonga
677 SB Solomon Islands
678 VU Vanuatu
679 FJ Fiji
680 PW Palau
681 WF Wallis and Futuna
682 CK Cook Islands
683 NU Niue
685 WS Samoa
686 KI Kiribati
687 NC New Caledonia
688 TV Tuvalu
689 PF French Polynesia
690 TK Tokelau
691 FM Micronesia
692 MH Marshall Islands
7 RU Russia
76,77 KZ Kazakhstan
81 JP Japan
82 KR South Korea
84 VN Vietnam
850 KP North Korea
852 HK Hong Kong
853 MO Macao
855 KH Cambodia
856 LA Laos
86 CN China
880 BD Bangladesh
886 TW Taiwan
90 TR Turkey
91 IN India
92 PK Pakistan
93 AF Afghanistan
94 LK Sri Lanka
95 MM Myanmar
960 MV Maldives
961 LB Lebanon
962 JO Jordan
963 SY Syria
964 IQ Iraq
965 KW Kuwait
966 SA Saudi Arabia
967 YE Yemen
968 OM Oman
970 PS Palestine
971 AE United Arab Emirates
972 IL Israel
973 BH Bahrain
974 QA Qatar
975 BT Bhutan
976 MN Mongolia
977 NP Nepal
98 IR Iran
992 TJ Tajikistan
993 TM Turkmenistan
994 AZ Azerbaijan
995 GE Georgia
996 KG Kyrgyzstan
998 UZ Uzbekistan
"""

# codes of no country, by kind
_GLOBAL: Final = {
    "satellite": ("870", "871", "872", "873", "874", "881", "8818", "8819", "88213", "88216"),
    "global": ("808", "878", "882", "883", "888", "991", "999"),
    "premium": ("979",),
}

FREEPHONE: Final = "800"
"""Universal international freephone numbers: of no country and of no kind that costs."""

# national ranges behind which the caller pays the callee
_PREMIUM: Final = (
    "1900", "2090", "3090", "31900", "31906", "31909", "3290", "3389", "34803", "34806", "34807", "34905", "34907",
    "351601", "351607", "351760", "351761", "351762", "352900", "352901", "352905", "358600", "358700",
    "35990", "3690", "38560", "38190", "38690", "38990", "39892", "39894", "39895", "39899", "4090", "41900",
    "41901", "41906", "420900", "420906", "420909", "421900", "43900", "43901", "43930", "43931", "43939", "4470",
    "44871", "44872", "44873", "449", "4590", "46900", "46939", "46944", "47820", "47829", "4870", "49118",
    "49137", "49138", "49900", "52900", "55900", "56700", "61190", "64900", "7809", "81990", "82060", "90900",
)  # fmt: skip

# destinations where call-back fraud and traffic pumping end most often, by what operators and Europol publish; short
# international numbers of small networks, with high termination fees
_HIGH_RISK: Final = frozenset({
    "AC", "AG", "AI", "AL", "AQ", "AZ", "BA", "BB", "BI", "BS", "BY", "CD", "CF", "CK", "CU", "DJ", "DM", "DO",
    "EE", "ER", "FJ", "FK", "GD", "GM", "GN", "GQ", "GW", "IO", "JM", "KI", "KM", "KN", "KP", "LC", "LI", "LK",
    "LR", "LS", "LT", "LV", "MC", "MG", "ML", "MR", "MS", "MV", "NE", "NF", "NR", "NU", "PG", "PW", "SB", "SC",
    "SH", "SL", "SM", "SO", "ST", "TC", "TD", "TK", "TL", "TN", "TO", "TV", "VC", "VG", "VU", "WF", "WS", "ZW",
})  # fmt: skip

GROUPS: Final = frozenset({"premium", "satellite", "global", "high-risk"})
"""Kinds of destination that a rule can name besides countries."""
MAX_CODE_DIGITS: Final = 7


class NumberInfo(NamedTuple):
    """What the table knows of a prefix."""

    country: str
    """ISO letters."""
    name: str


def _read_table() -> dict[str, NumberInfo]:
    table: dict[str, NumberInfo] = {}
    for line in _TABLE.strip().splitlines():
        prefixes, letters, name = line.split(" ", 2)
        for prefix in prefixes.split(","):
            if prefix in table:
                raise ValueError(f"{prefix} is there twice")
            table[prefix] = NumberInfo(letters, name)
    return table


_BY_PREFIX: Final = _read_table()
_KIND_BY_PREFIX: Final = {
    **dict.fromkeys(_PREMIUM, "premium"),
    **{prefix: kind for kind, prefixes in _GLOBAL.items() for prefix in prefixes},
}
COUNTRIES: Final = {info.country: info.name for info in _BY_PREFIX.values()}
"""ISO letters to names."""


def country_of(number: str) -> NumberInfo | None:
    """The country of a number in the form ``+491234``; None for the codes of no country and for those not assigned."""
    digits = number.removeprefix("+")
    for length in range(min(MAX_CODE_DIGITS, len(digits)), 0, -1):
        info = _BY_PREFIX.get(digits[:length])
        if info is not None:
            return info
    return None


def groups_of(number: str) -> frozenset[str]:
    """The kinds of destination, of `GROUPS`, that a number in the form ``+491234`` belongs to."""
    digits = number.removeprefix("+")
    groups = set()
    kind = _longest(_KIND_BY_PREFIX, digits)
    if kind is not None:
        groups.add(kind)
    info = country_of(number)
    if info is not None and info.country in _HIGH_RISK:
        groups.add("high-risk")
    return frozenset(groups)


def split_code(number: str) -> tuple[str, str] | None:
    """Calling code and what follows it, None where the code is not assigned."""
    digits = number.removeprefix("+")
    for length in (1, 2, 3):
        prefix = digits[:length]
        if prefix in _BY_PREFIX or prefix in _KIND_BY_PREFIX or prefix == FREEPHONE:
            return prefix, digits[length:]
    return None


def _longest(table: dict[str, str], digits: str) -> str | None:
    for length in range(min(MAX_CODE_DIGITS, len(digits)), 0, -1):
        kind = table.get(digits[:length])
        if kind is not None:
            return kind
    return None
