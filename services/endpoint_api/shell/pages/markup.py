"""HTML that can't be injected into: every text is escaped, every element is made by `tag`."""

from __future__ import annotations

import base64
import hashlib
import html
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

CODE: Final = re.compile(r"`([^`]+)`")

STYLE: Final = """
:root { --ink: #1c2430; --soft: #5b6675; --line: #dfe4ea; --paper: #fff; --shade: #f5f7f9; --mark: #0b6e6e;
  --get: #1666a8; --post: #1b7a3d; --patch: #94660a; --delete: #b3312c; color-scheme: light dark; }
@media (prefers-color-scheme: dark) { :root { --ink: #e4e8ed; --soft: #9aa6b4; --line: #303945; --paper: #14181d;
  --shade: #1c2229; --mark: #4fc3c3; --get: #6cb2ee; --post: #6fcf8e; --patch: #e0b354; --delete: #f08a85; } }
* { box-sizing: border-box; }
html { scroll-padding-top: 1rem; }
body { margin: 0; font: 15px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--paper);
  display: grid; grid-template-columns: 19rem minmax(0, 1fr); }
nav { position: sticky; top: 0; height: 100vh; overflow-y: auto; padding: 1.25rem; background: var(--shade);
  border-right: 1px solid var(--line); font-size: 13px; }
nav h2 { font-size: 12px; text-transform: uppercase; letter-spacing: .06em; color: var(--soft);
  margin: 1.25rem 0 .25rem; }
nav ul { list-style: none; margin: 0; padding: 0; }
nav a { display: block; padding: .1rem 0; color: var(--ink); text-decoration: none; overflow-wrap: anywhere; }
nav a:hover { color: var(--mark); text-decoration: underline; }
main { padding: 2rem 2.5rem 6rem; max-width: 68rem; }
h1 { font-size: 1.7rem; margin: 0 0 .5rem; } h2 { font-size: 1.3rem; margin: 3rem 0 .5rem; }
h3 { font-size: 1.05rem; margin: 0; } h4 { font-size: .85rem; color: var(--soft); margin: 1.25rem 0 .35rem; }
a { color: var(--mark); } p { margin: .35rem 0 .6rem; }
code, pre { font: 13px/1.45 ui-monospace, SFMono-Regular, Menlo, Consolas, monospace; overflow-wrap: anywhere; }
h3 code { font-size: .95rem; }
p code, td code, li code { background: var(--shade); border-radius: 3px; padding: 0 .25em; }
pre { background: var(--shade); border: 1px solid var(--line); border-radius: 6px; padding: .75rem; margin: .25rem 0;
  overflow-x: auto; overflow-wrap: normal; }
section.item { border: 1px solid var(--line); border-radius: 8px; padding: 1rem 1.25rem; margin: 1rem 0; }
section.item:target { border-color: var(--mark); box-shadow: 0 0 0 1px var(--mark); }
.head { display: flex; gap: .75rem; align-items: baseline; flex-wrap: wrap; }
.method { font: 700 12px ui-monospace, monospace; min-width: 3.6rem; }
.get { color: var(--get); } .post { color: var(--post); } .patch, .put { color: var(--patch); }
.delete { color: var(--delete); }
.soft { color: var(--soft); } .must { color: var(--delete); font-size: 12px; }
.chip { display: inline-block; border: 1px solid var(--line); border-radius: 99px; padding: 0 .55rem;
  margin: 0 .25rem .2rem 0; font-size: 12px; }
.table { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-size: 14px; }
th { text-align: left; font-weight: 600; color: var(--soft); font-size: 12px; }
td, th { padding: .35rem .75rem .35rem 0; border-bottom: 1px solid var(--line); vertical-align: top; }
td:first-child { min-width: 12rem; } td:nth-child(2) { min-width: 9rem; }
summary { cursor: pointer; color: var(--mark); font-size: 14px; margin-top: .75rem; }
@media (max-width: 52rem) { body { display: block; } nav { position: static; height: auto; max-height: 40vh;
  border-right: 0; border-bottom: 1px solid var(--line); } main { padding: 1.25rem; } }
@media print { nav { display: none; } body { display: block; } }
"""
_STYLE_HASH: Final = base64.b64encode(hashlib.sha256(STYLE.encode()).digest()).decode()
# Nothing may be loaded, run, framed or sent; only our own style is let in, by its hash.
POLICY: Final = (
    f"default-src 'none'; style-src 'sha256-{_STYLE_HASH}'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


@dataclass(frozen=True, slots=True)
class Markup:
    """Text that is HTML already."""

    text: str


Content = str | Markup | None


def tag(name: str, *content: Content, **attributes: str) -> Markup:
    """An element; a trailing underscore of an attribute is dropped, so that `class_` is possible."""
    inside = "".join(each.text if isinstance(each, Markup) else html.escape(each or "") for each in content)
    words = "".join(f' {key.rstrip("_")}="{html.escape(value)}"' for key, value in attributes.items() if value)
    return Markup(f"<{name}{words}>{inside}</{name}>")


def joined(parts: Iterable[Content]) -> Markup:
    """Several as one."""
    return Markup("".join(each.text if isinstance(each, Markup) else html.escape(each or "") for each in parts))


def prose(text: str) -> Markup:
    """Paragraphs, with what stands in backticks as code."""
    return joined(tag("p", inline(each)) for each in text.split("\n\n") if each.strip())


def inline(text: str) -> Markup:
    """A sentence, with what stands in backticks as code."""
    parts = CODE.split(text)
    return joined(tag("code", each) if index % 2 else each for index, each in enumerate(parts))


def page(title: str, nav: Markup, main: Markup) -> str:
    """A whole page."""
    head = joined(
        (
            Markup('<meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">'),
            tag("title", title),
            Markup(f"<style>{STYLE}</style>"),
        )
    )
    whole = tag("html", tag("head", head), tag("body", tag("nav", nav), tag("main", main)), lang="en")
    return f"<!doctype html>\n{whole.text}\n"


def anchor(text: str) -> str:
    """An id for a place in the page."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")
