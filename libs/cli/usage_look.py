"""How a usage report looks: quiet, wide enough for figures, right on paper, in the light and in the dark.

The colours of accounts are told apart by people who see fewer colours (after Okabe and Ito).
"""

from __future__ import annotations

from typing import Final

LOOK: Final = """
:root{--font:system-ui,-apple-system,"Segoe UI",Roboto,sans-serif;
--page:#f6f7f9;--card:#fff;--ink:#1a2230;--soft:#5b6676;--line:#dfe3ea;--grid:#e9edf2;
--c-serving:#0f6fb4;--c-loading:#e6a117;--c-draining:#6cc0ee;--c-idle-owned:#a3abb8;--c-warm:#1a9a77;--c-stranded:#d4551f}
@media (prefers-color-scheme:dark){:root{
--page:#10151d;--card:#181f2a;--ink:#e8edf4;--soft:#9aa7b8;--line:#2b3543;--grid:#252e3b;
--c-serving:#3d9be0;--c-loading:#f0b73f;--c-draining:#a6dcf7;--c-idle-owned:#6d7888;--c-warm:#3cc79f;--c-stranded:#f0764a}}
*{box-sizing:border-box}
body{margin:0;background:var(--page);color:var(--ink);font:15px/1.5 var(--font)}
main{max-width:1240px;margin:0 auto;padding:32px 24px 48px}
header h1{margin:0;font-size:28px;line-height:1.2;letter-spacing:-.01em;overflow-wrap:anywhere}
header p{margin:6px 0 0;color:var(--soft)}
header .over{margin:0 0 4px;font-size:12px;letter-spacing:.08em;text-transform:uppercase}
section{background:var(--card);border:1px solid var(--line);border-radius:10px;padding:18px 20px 16px;margin-top:18px}
h2{margin:0 0 8px;font-size:17px}
.none{text-align:center;padding:56px 20px;color:var(--soft)}
.none h2{color:var(--ink)}
dl.figures{display:grid;grid-template-columns:repeat(auto-fit,minmax(165px,1fr));gap:12px;margin:22px 0 0}
dl.figures div{background:var(--card);border:1px solid var(--line);border-radius:10px;padding:12px 14px}
dl.figures dt{color:var(--soft);font-size:13px}
dl.figures dd{margin:2px 0 0;font-size:18px;font-weight:600;font-variant-numeric:tabular-nums}
.pair{display:grid;grid-template-columns:minmax(0,1fr) minmax(0,1fr);gap:24px;align-items:start}
.chart{overflow-x:auto}
.chart svg{display:block;width:100%;height:auto}
.figures-of{overflow:auto;max-height:400px}
ul.legend{display:flex;flex-wrap:wrap;gap:4px 18px;margin:0 0 10px;padding:0;font-size:13px;color:var(--soft)}
ul.legend li{list-style:none}
ul.legend i{display:inline-block;width:11px;height:11px;border-radius:2px;margin-right:6px;vertical-align:-1px}
dl.meanings{display:grid;grid-template-columns:max-content 1fr;gap:1px 12px;margin:14px 0 0;font-size:13px}
dl.meanings dt{font-weight:600}
dl.meanings dd{margin:0;color:var(--soft)}
table{border-collapse:collapse;width:100%;font-size:13px;font-variant-numeric:tabular-nums}
th,td{padding:4px 7px;text-align:right;border-bottom:1px solid var(--grid);white-space:nowrap}
th:first-child{text-align:left;font-weight:400;padding-left:0}
table.names th:first-child{white-space:normal;overflow-wrap:anywhere;min-width:150px}
td.zero{color:var(--soft);opacity:.6}
thead th{position:sticky;top:0;background:var(--card);color:var(--soft);font-weight:600}
thead th:first-child,tfoot th:first-child{font-weight:600}
tfoot td,tfoot th{position:sticky;bottom:0;background:var(--card);font-weight:600}
tfoot td,tfoot th{border-top:1px solid var(--line);border-bottom:0}
svg text{font:12.5px var(--font);fill:var(--ink)}
svg .mark,svg .unit{fill:var(--soft);font-size:12px}
svg .grid{stroke:var(--grid)}
svg .axis{stroke:var(--soft)}
svg .value{font-variant-numeric:tabular-nums}
svg .bar:hover{opacity:.75}
footer{margin-top:20px;color:var(--soft);font-size:13px}
@media (max-width:900px){.pair{grid-template-columns:minmax(0,1fr)}main{padding:20px 14px}}
@media (max-width:560px){section{padding:14px}dl.figures{grid-template-columns:1fr 1fr}dl.figures dd{font-size:16px}
svg text,svg .mark,svg .unit{font-size:18px}th,td{padding:4px 5px}table{font-size:12px}
table.names th:first-child{min-width:92px}
th:first-child{position:sticky;left:0;background:var(--card)}}
@media print{body{background:#fff}.figures-of{max-height:none}section{break-inside:avoid}}
"""
