"""Style sheet of the page, for light and dark color schemes."""

from __future__ import annotations

from collections.abc import Mapping

from darkpy.diagnostics.report.drawing import DARK_COLORS, LIGHT_COLORS

_CSS_RULES = """
*{box-sizing:border-box}
html{color-scheme:light dark}
body{margin:0;background:var(--paper);color:var(--ink);font:15px/1.5 system-ui,-apple-system,"Segoe UI",sans-serif}
main,header,nav{max-width:940px;margin:0 auto;padding:0 20px}
header{padding-top:28px}
h1{font-size:26px;line-height:1.25;margin:0 0 4px;overflow-wrap:anywhere}
h2{font-size:19px;margin:36px 0 6px;padding-top:8px;border-top:1px solid var(--grid)}
h3{font-size:15px;margin:0;overflow-wrap:anywhere}
p{margin:4px 0}
.muted{color:var(--muted)}
nav ul{display:flex;flex-wrap:wrap;gap:4px 18px;list-style:none;margin:12px 0 0;padding:0}
a{color:var(--first)}
a:focus-visible,summary:focus-visible{outline:3px solid var(--second);outline-offset:2px;border-radius:2px}
.skip{position:absolute;left:-9999px}
.skip:focus{left:8px;top:8px;background:var(--paper);padding:6px 10px;z-index:1}
.verdict{margin:18px 0 0;padding:12px 16px;border-left:5px solid var(--first);background:var(--panel)}
.verdict.bad{border-color:var(--bad)}
dl.facts{display:grid;grid-template-columns:repeat(auto-fill,minmax(150px,1fr));gap:10px 18px;margin:18px 0 0}
dl.facts dt{color:var(--muted);font-size:13px}
dl.facts dd{margin:0;font-size:17px;font-variant-numeric:tabular-nums;overflow-wrap:anywhere}
figure{margin:10px 0 0}
svg,img{max-width:100%;height:auto;display:block}
svg text{font:12px system-ui,-apple-system,"Segoe UI",sans-serif}
svg polyline,svg path{fill:none;stroke-linejoin:round}
svg image{image-rendering:pixelated}
ol.findings{list-style:none;margin:8px 0 0;padding:0}
ol.findings>li{margin:14px 0;padding:12px 16px;border:1px solid var(--grid);border-left:5px solid var(--bad);
 border-radius:4px}
ol.findings p{overflow-wrap:anywhere}
ol.tries{margin:6px 0 0;padding-left:22px}
code{font:13px/1.4 ui-monospace,Menlo,Consolas,monospace;overflow-wrap:anywhere}
details{margin:10px 0 0}
summary{cursor:pointer;color:var(--first)}
.scroll{overflow-x:auto}
table{border-collapse:collapse;font-variant-numeric:tabular-nums;font-size:13px;min-width:100%}
caption{text-align:left;color:var(--muted);padding:4px 0}
th,td{text-align:right;padding:3px 10px;border-bottom:1px solid var(--grid);white-space:nowrap}
th:first-child,td:first-child{text-align:left}
@media print{nav,.skip{display:none}ol.findings>li{break-inside:avoid}}
"""


def style_sheet() -> str:
    """CSS of the page; the reader's color scheme chooses between light and dark."""
    lines = "".join(
        f"svg .l-{name}{{stroke:var(--{name})}}svg .t-{name}{{fill:var(--{name})}}" for name in LIGHT_COLORS
    )
    light, dark = _variables({**LIGHT_COLORS, "panel": "#f3f6f9"}), _variables({**DARK_COLORS, "panel": "#1c222b"})
    return f":root{{{light}}}@media(prefers-color-scheme:dark){{:root{{{dark}}}}}{_CSS_RULES}{lines}"


def _variables(colors: Mapping[str, str]) -> str:
    return "".join(f"--{name}:{value};" for name, value in colors.items())
