"""How the page looks: a column that fits any width, light or dark as the reader's system is."""

CSS = """
:root {
  color-scheme: light dark;
  --paper: #fbfbfa; --card: #ffffff; --ink: #23272e; --soft: #626a75; --line: #e2e4e8;
  --accent: #2667b5; --shade: #f0f2f5;
}
@media (prefers-color-scheme: dark) {
  :root {
    --paper: #14171b; --card: #1b1f25; --ink: #e3e6ea; --soft: #9aa3af; --line: #323841;
    --accent: #7fb2ee; --shade: #242a32;
  }
}
* { box-sizing: border-box; }
html { -webkit-text-size-adjust: 100%; scroll-behavior: smooth; }
@media (prefers-reduced-motion: reduce) { html { scroll-behavior: auto; } }
body {
  margin: 0 auto; padding: 0 1rem 3rem; max-width: 72rem; background: var(--paper);
  color: var(--ink); font: 16px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, sans-serif;
  overflow-wrap: anywhere;
}
header { padding: 2rem 0 0.5rem; }
h1 { font-size: 1.7rem; line-height: 1.2; margin: 0; letter-spacing: -0.01em; }
h2 { font-size: 1.25rem; margin: 0 0 0.9rem; }
h3 { font-size: 1rem; margin: 0 0 0.3rem; }
p { margin: 0.4rem 0; }
a { color: var(--accent); }
.what, .note, figcaption, caption, footer, dt { color: var(--soft); }
.what { font-family: ui-monospace, Menlo, Consolas, monospace; font-size: 0.9rem; }
nav ul { display: flex; flex-wrap: wrap; gap: 0.25rem 1.1rem; list-style: none;
  margin: 0.6rem 0 1rem; padding: 0; font-size: 0.92rem; }
nav a { text-decoration: none; }
nav a:hover, nav a:focus { text-decoration: underline; }
section {
  background: var(--card); border: 1px solid var(--line); border-radius: 10px;
  padding: 1.2rem 1.3rem; margin: 0 0 1.1rem;
}
article + article { border-top: 1px solid var(--line); margin-top: 1.3rem; padding-top: 1.1rem; }
.tiles dl { display: grid; grid-template-columns: repeat(auto-fit, minmax(9.5rem, 1fr));
  gap: 0.7rem; margin: 1rem 0 0.4rem; }
.tiles dl > div { display: flex; flex-direction: column-reverse; justify-content: flex-end;
  background: var(--card); border: 1px solid var(--line); border-radius: 10px;
  padding: 0.6rem 0.9rem; }
.tiles dt { font-size: 0.82rem; line-height: 1.3; }
.tiles dd { font-size: 1.25rem; font-weight: 600; font-variant-numeric: tabular-nums; }
dl { margin: 0.6rem 0; }
dd { margin: 0; }
dl:not(.tiles dl) > div { display: grid; grid-template-columns: minmax(7rem, 11rem) 1fr;
  gap: 0 1rem; padding: 0.22rem 0; }
.settings dl { columns: 24rem; column-gap: 2rem; font-size: 0.92rem; }
dl:not(.tiles dl) > div { break-inside: avoid; border-bottom: 1px solid var(--line); }
.columns { display: grid; gap: 1.1rem 1.4rem;
  grid-template-columns: repeat(auto-fit, minmax(min(100%, 22rem), 1fr)); align-items: start; }
figure { margin: 0 0 0.6rem; min-width: 0; }
img { max-width: 100%; height: auto; display: block; }
img.chart { width: 100%; max-width: 34rem; }
img.pixels { image-rendering: pixelated; border-radius: 4px; }
.columns img.pixels { width: 100%; max-width: 38rem; }
img.plot { background: #fff; border-radius: 4px; min-width: 56rem; }
figcaption { font-size: 0.87rem; line-height: 1.4; margin-top: 0.4rem; max-width: 46rem; }
.scroll { overflow-x: auto; margin: 0.8rem 0; max-width: 100%; }
.scroll:focus-visible, pre:focus-visible { outline: 2px solid var(--accent); outline-offset: 2px; }
table { border-collapse: collapse; font-size: 0.9rem; font-variant-numeric: tabular-nums;
  overflow-wrap: normal; }
caption { text-align: left; padding-bottom: 0.3rem; }
th, td { text-align: left; padding: 0.3rem 1.2rem 0.3rem 0; border-bottom: 1px solid var(--line);
  vertical-align: top; }
thead th { font-weight: 600; color: var(--soft); white-space: nowrap; }
tbody th { font-weight: 400; min-width: 8rem; }
.columns > .scroll { margin: 0; }
td { white-space: nowrap; }
code, pre { font-family: ui-monospace, Menlo, Consolas, monospace; font-size: 0.86em; }
p code, li code { background: var(--shade); border-radius: 4px; padding: 0.1em 0.35em; }
pre { overflow: auto; max-height: 30rem; line-height: 1.35; background: var(--shade);
  padding: 0.8rem; border-radius: 6px; overflow-wrap: normal; }
details { margin: 0.6rem 0; }
summary { cursor: pointer; }
li { margin: 0.25rem 0; }
footer { font-size: 0.85rem; padding: 0 0.2rem; }
@media (max-width: 34rem) {
  section { padding: 1rem 0.9rem; }
  h1 { font-size: 1.4rem; }
  dl:not(.tiles dl) > div { grid-template-columns: 42% 1fr; }
  .tiles dl { grid-template-columns: repeat(2, minmax(0, 1fr)); }
}
@media print { body { max-width: none; } nav { display: none; } section { break-inside: avoid; } }
"""
