"""The page's style sheet: light and dark by the reader's preference, and a plain print."""

from __future__ import annotations

__all__ = ["CSS"]

CSS = """
:root {
  --paper:#fcfcfa; --ink:#1b2127; --soft:#59636d; --hair:#d9dde0; --panel:#f3f4f1;
  --good:#1d6f48; --bad:#b3261e;
  --sip:#24405c; --media:#0a6d7d; --engine:#6440b4; --sh:#94570a; --decision:#4b5560;
  --caller:#0a6d7d; --agent:#6440b4; --filler:#94570a; --direct:#1d6f48; --wave:#3d566f;
}
@media (prefers-color-scheme: dark) { :root {
  --paper:#14181c; --ink:#e4e7ea; --soft:#98a2ab; --hair:#313940; --panel:#1b2126;
  --good:#63c795; --bad:#ff8a80;
  --sip:#a9c7e6; --media:#5cc4d4; --engine:#b9a1f2; --sh:#e0ab62; --decision:#aeb7bf;
  --caller:#5cc4d4; --agent:#b9a1f2; --filler:#e0ab62; --direct:#63c795; --wave:#8fb0cf;
} }
* { box-sizing:border-box }
html { background:var(--paper); color:var(--ink); -webkit-text-size-adjust:100% }
body { margin:0 auto; max-width:1180px; padding:44px 32px 72px;
  font:15px/1.5 "Source Sans 3","Segoe UI","Helvetica Neue",Arial,"DejaVu Sans",sans-serif }
h1,h2,h3 { font-weight:600; line-height:1.2; margin:0; letter-spacing:-.01em }
h1 { font-size:31px } h2 { font-size:23px }
h3 { font-size:12px; letter-spacing:.07em; text-transform:uppercase; color:var(--soft); margin:30px 0 10px }
p { margin:.5em 0 } a { color:inherit; text-decoration-color:var(--hair); text-underline-offset:3px }
.lead { color:var(--soft); max-width:84ch; margin:.5em 0 0 }
.verdict { font-size:17px; margin:18px 0 26px }
.ok { color:var(--good) } .bad { color:var(--bad) } .soft { color:var(--soft) }
code,.mono { font:12.5px/1.5 "JetBrains Mono","SF Mono",Consolas,"DejaVu Sans Mono",monospace; overflow-wrap:anywhere }
table { border-collapse:collapse; width:100%; font-variant-numeric:tabular-nums }
th { text-align:left; font-weight:600; font-size:12.5px; color:var(--soft); vertical-align:bottom }
th,td { padding:6px 22px 6px 0; border-bottom:1px solid var(--hair) } td { vertical-align:top }
th.n,td.n { text-align:right; white-space:nowrap } th:last-child,td:last-child { padding-right:0 }
thead th { border-bottom:1px solid var(--soft) }
section { margin-top:64px; border-top:2px solid var(--ink); padding-top:18px }
.head { display:flex; gap:16px; align-items:baseline; justify-content:space-between; flex-wrap:wrap }
.pair { display:grid; grid-template-columns:minmax(0,1fr) minmax(0,1fr); gap:0 48px }
.facts { list-style:none; margin:0; padding:0 } .facts li { padding:4px 0 4px 24px; text-indent:-24px }
.facts b { display:inline-block; width:24px; text-indent:0; font-weight:600 }
.talk td:first-child { color:var(--soft); width:88px; white-space:nowrap } .talk td:nth-child(2) { width:74px }
.talk .agent { color:var(--agent) } .talk .user { color:var(--caller) }
figure { margin:0 } figure svg { display:block; width:100%; height:auto }
figcaption { color:var(--soft); font-size:13px; margin-top:8px }
.key { display:flex; flex-wrap:wrap; gap:4px 20px; font-size:13px; color:var(--soft); margin:0 0 8px }
.key i { display:inline-block; width:22px; height:0; border-top:2px solid; vertical-align:middle; margin-right:7px }
.key i.box { height:11px; border:0; opacity:.3 }
.audio { display:grid; grid-template-columns:repeat(auto-fill,minmax(270px,1fr)); gap:14px 28px; margin-top:14px }
.audio audio { width:100%; height:34px; margin-top:4px } .audio div { font-size:13.5px }
svg text { font-family:"Source Sans 3","Segoe UI","Helvetica Neue",Arial,"DejaVu Sans",sans-serif; font-size:11px;
  fill:var(--ink); font-variant-numeric:tabular-nums }
svg .head { font-weight:600; font-size:12px } svg .time,svg .pause { fill:var(--soft); font-size:10px }
svg .pause { font-style:italic }
svg .life,svg .axis { stroke:var(--hair); stroke-width:1.2 } svg .axis { stroke:var(--soft); stroke-width:.8 }
svg .break { stroke:var(--soft); stroke-width:1 } svg .break-gap { stroke:var(--paper); stroke-width:3 }
svg .arrow { stroke-width:1.2; stroke:var(--c) } svg .tip { fill:var(--c) } svg .hover { fill:transparent }
svg .label { fill:var(--c,var(--ink)); paint-order:stroke; stroke:var(--paper); stroke-width:3.5px;
  stroke-linejoin:round }
svg .sip { --c:var(--sip) } svg .media { --c:var(--media) } svg .engine { --c:var(--engine) } svg .sh { --c:var(--sh) }
svg .decision { --c:var(--decision) } svg .failure { --c:var(--bad); font-weight:600 }
svg .band { fill:var(--c); fill-opacity:.11; stroke:var(--c); stroke-opacity:.35; stroke-width:.7 }
svg .caller { --c:var(--caller) } svg .agent { --c:var(--agent) } svg .filler { --c:var(--filler) }
svg .direct { --c:var(--direct) } svg .label.said { font-style:italic; stroke:none }
svg .wave { fill:var(--wave) } svg .grid { stroke:var(--hair); stroke-width:.8 }
svg .caption { fill:var(--ink) } svg line.said { stroke:var(--wave); stroke-width:1.6; stroke-opacity:.7 }
svg line.marker { stroke:var(--bad); stroke-width:.9; stroke-dasharray:3 3 }
svg text.marker { fill:var(--bad); font-size:10.5px; paint-order:stroke; stroke:var(--paper); stroke-width:3px }
footer { margin-top:64px; color:var(--soft); font-size:13px }
footer dl { display:grid; grid-template-columns:max-content 1fr; gap:3px 18px; margin:0 } footer dd { margin:0 }
@media (max-width:760px) { .pair { grid-template-columns:1fr } body { padding:28px 16px } }
@media print {
  :root { --paper:#fff; --ink:#000; --soft:#444; --hair:#bbb }
  body { max-width:none; padding:0; font-size:10.5pt } .audio audio { display:none }
  section { break-before:page; margin-top:0 } figure,table,.facts { break-inside:avoid } figure.long
  { break-inside:auto }
}
"""
