"""Frame of an HTML page that is one file, without scripts, servers or other files."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape

from darkpy.diagnostics.report.style import style_sheet
from darkpy.files import PROGRAM_MARK
from darkpy.finding import printable

CONTENT_SECURITY_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"


def html_text(text: str) -> str:
    """Text of a file as HTML: escaped, and without characters that would hide or reverse text."""
    return escape(printable(text))


def html_page(title: str, header: str, parts: Iterable[tuple[str, str, str]], css: str = "") -> str:
    """Page with a table of contents. header, css: HTML and further rules.

    parts: identifier, title and HTML of each section; the first one has the findings, or the page's main content.
    """
    parts = list(parts)
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8">'
        f'<meta name="generator" content="{PROGRAM_MARK}">'
        f'<meta name="viewport" content="width=device-width,initial-scale=1">'
        f'<meta http-equiv="Content-Security-Policy" content="{CONTENT_SECURITY_POLICY}">'
        f"<title>{html_text(title)}</title><style>{style_sheet()}{css}</style></head><body>"
        f'<a class="skip" href="#{parts[0][0]}">To the {parts[0][0]}</a>{html_content(header, parts)}</body></html>\n'
    )


def html_content(header: str, parts: Sequence[tuple[str, str, str]]) -> str:
    """Header, table of contents and sections, as in `html_page`."""
    links = "".join(f'<li><a href="#{name}">{escape(text)}</a></li>' for name, text, _ in parts)
    sections = "".join(f'<section id="{name}"><h2>{escape(text)}</h2>{body}</section>' for name, text, body in parts)
    return f'{header}<nav aria-label="Contents"><ul>{links}</ul></nav><main>{sections}<p>&nbsp;</p></main>'
