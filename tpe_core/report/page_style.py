"""How the page of a report looks: light and dark by the reader's setting, wide and on a phone, and on paper."""

from __future__ import annotations

__all__ = ["STYLE"]

STYLE = """:root { color-scheme: light dark; --ground: #ffffff; --ink: #1b1f24; --muted: #57606a; --line: #d0d5db;
  --panel: #f5f7f9; --link: #005a9c; --warn: #8a4b00; }
@media screen and (prefers-color-scheme: dark) { :root { --ground: #14171c; --ink: #eceff3; --muted: #a4adb8;
  --line: #39414b; --panel: #1c2128; --link: #7cc4f5; --warn: #f0c541; } }
* { box-sizing: border-box; }
html { -webkit-text-size-adjust: 100%; }
body { margin: 0 auto; padding: 1.5rem 1rem 3rem; max-width: 56rem; background: var(--ground); color: var(--ink);
  font: 1rem/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "DejaVu Sans", sans-serif; overflow-wrap: break-word; }
h1 { font-size: 2rem; line-height: 1.2; margin: 0 0 .6rem; overflow-wrap: anywhere; }
h2 { font-size: 1.3rem; line-height: 1.3; margin: 0 0 .3rem; }
a { color: var(--link); }
a:focus-visible, summary:focus-visible, .wide:focus-visible { outline: 3px solid var(--link); outline-offset: 2px; }
.skip { position: absolute; left: -100vw; background: var(--ground); padding: .5rem 1rem; }
.skip:focus { left: 1rem; top: .5rem; z-index: 1; }
.kind { margin: 0; color: var(--muted); letter-spacing: .06em; text-transform: uppercase; font-size: .85rem; }
nav { margin: 1.5rem 0; padding: 1rem; background: var(--panel); border-radius: .5rem; }
nav h2 { font-size: 1rem; }
nav ol { margin: 0; padding-left: 1.6rem; columns: 2; column-gap: 2rem; }
nav li { break-inside: avoid; }
section { margin: 2.5rem 0; padding-top: 1.2rem; border-top: 1px solid var(--line); }
.counterpart { margin: 0 0 .8rem; color: var(--muted); font-size: .92rem; }
.finding { margin: .8rem 0; padding: .7rem 1rem; background: var(--panel); border-left: 4px solid var(--link); }
.missing { margin: .8rem 0; padding: .7rem 1rem; background: var(--panel); border-left: 4px solid var(--warn); }
.caption, figcaption { color: var(--muted); font-size: .92rem; }
figure { margin: 1rem 0; }
img { display: block; width: 100%; max-width: 52rem; height: auto; }
code { font-family: ui-monospace, "DejaVu Sans Mono", Menlo, Consolas, monospace; font-size: .88em;
  overflow-wrap: anywhere; }
.word { white-space: nowrap; }
.command { font-size: .92rem; }
details { margin: .8rem 0; }
summary { cursor: pointer; color: var(--link); }
.wide { overflow-x: auto; max-width: 100%; }
table { border-collapse: collapse; margin: .6rem 0; font-size: .92rem; }
caption { text-align: left; color: var(--muted); padding-bottom: .3rem; }
th, td { padding: .25rem .8rem .25rem 0; text-align: left; vertical-align: top; border-bottom: 1px solid var(--line); }
thead th { border-bottom-width: 2px; }
tbody th { font-weight: 500; }
.number { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
.facts th { color: var(--muted); white-space: nowrap; }
.facts td { overflow-wrap: anywhere; }
footer { margin-top: 3rem; padding-top: 1rem; border-top: 1px solid var(--line); color: var(--muted);
  font-size: .9rem; }
@media (max-width: 40rem) { nav ol { columns: 1; } h1 { font-size: 1.6rem; } .facts th { white-space: normal; } }
@media print {
  :root { color-scheme: light; }
  body { max-width: none; padding: 0; font-size: 10pt; }
  nav, .skip { display: none; }
  a { color: inherit; text-decoration: none; }
  section { break-inside: auto; }
  h2, .counterpart, .finding { break-after: avoid; }
  figure, tr { break-inside: avoid; }
  .wide { overflow: visible; }
  table { font-size: 8pt; }
  @page { margin: 18mm 15mm; }
}"""
