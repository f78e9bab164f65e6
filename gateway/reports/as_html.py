"""A report as one HTML file: nothing is loaded from anywhere, charts are inline SVG, printed it is one page of A4.

pygal is loaded here and only when a report is made.
"""

from __future__ import annotations

import re
import sys
from html import escape
from typing import Any

from gateway.projections.heat import HeatMap
from gateway.reports.document import Chart, Document, Sheet
from gateway.reports.words import text

_ROWS_MOST = 8
_SCRIPT = re.compile(r"<script.*?</script>|<!--.*?-->", re.DOTALL)  # settings of a script that we do not load
_COLOURS = ("#1f6f5c", "#9aa5a1", "#c77b30")
_CSS = """
@page { size: A4; margin: 11mm }
* { box-sizing: border-box }
body { font: 14px/1.4 system-ui, "PingFang SC", "Microsoft YaHei", "Noto Sans CJK SC", sans-serif; color: #1c2321;
  margin: 0 auto; max-width: 60rem; padding: 1.2rem }
h1 { font-size: 1.5rem; margin: 0 } h2 { font-size: 1rem; margin: 1rem 0 .3rem }
.sub { color: #55605c; margin: .1rem 0 1rem }
.tiles { display: grid; grid-template-columns: repeat(auto-fill, minmax(11rem, 1fr)); gap: .5rem; margin: 0 }
.tile { border: 1px solid #d5dbd8; border-radius: 6px; padding: .45rem .6rem; break-inside: avoid }
.tile dt { color: #55605c; font-size: .8rem } .tile dd { margin: 0 }
.tile b { font-size: 1.25rem; font-variant-numeric: tabular-nums } .tile.dark b { color: #8a938f }
.tile small { display: block; color: #55605c; font-size: .75rem }
.row { display: grid; grid-template-columns: repeat(auto-fit, minmax(18rem, 1fr)); gap: .8rem }
figure { margin: 0; break-inside: avoid } .heat { max-width: 22rem }
figure svg { width: 100%; height: auto; display: block }
table { border-collapse: collapse; width: 100%; font-size: .85rem }
th, td { text-align: right; padding: .2rem .4rem; border-bottom: 1px solid #e3e8e6; font-weight: normal }
th { color: #55605c } th:first-child, td:first-child { text-align: left; overflow-wrap: anywhere }
.notes { color: #55605c; font-size: .8rem; margin-top: .8rem }
.empty { font-size: 1.1rem; border: 1px solid #d5dbd8; border-radius: 6px; padding: 1rem }
@media print { body { padding: 0; max-width: none; font-size: 10px } h1 { font-size: 15px } h2 { margin: .5rem 0 .1rem }
  .sub { margin-bottom: .4rem } .tiles { grid-template-columns: repeat(6, 1fr); gap: .3rem }
  .tile { padding: .25rem .35rem } .tile b { font-size: 12px } .heat { max-width: 45% }
  .row { grid-template-columns: repeat(2, 1fr); gap: .4rem } }
"""


def as_html(document: Document) -> str:
    """The report as a self-contained page."""
    body = [f"<h1>{escape(document.title)}</h1>", f'<p class="sub">{escape(document.subtitle)}</p>']
    if document.empty:
        body.append(f'<p class="empty">{escape(document.empty)}</p>')
    else:
        body.append(_tiles(document))
        body.append(_row([_figure(chart.title, _svg(chart)) for chart in document.charts if chart.labels]))
        body.append(_row([_table(sheet, document) for sheet in document.sheets]))
        body.append(_row([_figure(title, _heat(map_), "heat") for title, map_ in document.maps[:4]]))
    body.append(f'<div class="notes">{"".join(f"<p>{escape(note)}</p>" for note in document.notes)}</div>')
    tag = document.language.replace("_", "-")
    return (
        f'<!DOCTYPE html>\n<html lang="{tag}"><head><meta charset="utf-8"><meta name="viewport" '
        f'content="width=device-width"><title>{escape(document.title)} {escape(document.subtitle)}</title>'
        f"<style>{_CSS}</style></head><body><main>{''.join(body)}</main></body></html>\n"
    )


def _tiles(document: Document) -> str:
    before = text("compared", document.language)
    tiles = []
    for tile in document.tiles:
        was = f"<small>{escape(before)} {escape(tile.compared)} {escape(tile.change)}</small>" if not tile.dark else ""
        note = f"<small>{escape(tile.note)}</small>" if tile.note else ""
        tiles.append(
            f'<div class="tile{" dark" if tile.dark else ""}"><dt>{escape(tile.label)}</dt>'
            f"<dd><b>{escape(tile.value)}</b>{was}{note}</dd></div>"
        )
    return f'<dl class="tiles">{"".join(tiles)}</dl>'


def _row(parts: list[str]) -> str:
    return f'<div class="row">{"".join(parts)}</div>' if parts else ""


def _figure(title: str, svg: str, kind: str = "chart") -> str:
    return f'<figure class="{kind}"><h2>{escape(title)}</h2>{svg}</figure>'


def _svg(chart: Chart) -> str:
    pygal, style_of = _pygal()
    style = style_of(
        background="transparent", plot_background="transparent", colors=_COLOURS, opacity="1", font_family="inherit",
        label_font_size=13, legend_font_size=13, major_label_font_size=13, foreground="#55605c",
        foreground_strong="#1c2321", foreground_subtle="#d5dbd8",
    )  # fmt: skip
    kind = pygal.Bar if chart.bars else pygal.Line
    drawn = kind(
        style=style, width=620, height=260, js=[], disable_xml_declaration=True, show_legend=len(chart.series) > 1,
        legend_at_bottom=True, legend_at_bottom_columns=len(chart.series),
        range=(0, max(_most(chart), 1)), dots_size=2.5, margin=8, max_scale=6, spacing=6,
        value_formatter=lambda value: f"{value:,.0f}", truncate_legend=-1, no_data_text="–",
    )  # fmt: skip
    drawn.x_labels = list(chart.labels)
    for series in chart.series:
        drawn.add(series.label, list(series.values))
    return _SCRIPT.sub("", str(drawn.render(is_unicode=True)))


def _pygal() -> tuple[Any, Any]:
    """The library, without the hook that it puts into everybody's imports for plugins that we do not use."""
    import pygal
    from pygal.style import Style

    sys.meta_path[:] = [hook for hook in sys.meta_path if type(hook).__name__ != "PluginImportFixer"]
    return pygal, Style


def _most(chart: Chart) -> float:
    return max((value for one in chart.series for value in one.values if value is not None), default=0.0)


def _heat(map_: HeatMap) -> str:
    most = max(map_.person_s)
    cells = "".join(
        f'<rect x="{index % map_.cols}" y="{index // map_.cols}" width="1" height="1" fill="#b3261e" '
        f'fill-opacity="{max(0.05, value / most):.2f}"/>'
        for index, value in enumerate(map_.person_s)
        if value > 0
    )
    return (
        f'<svg viewBox="0 0 {map_.cols} {map_.rows}" role="img" shape-rendering="crispEdges">'
        f'<rect width="{map_.cols}" height="{map_.rows}" fill="#eef1f0"/>{cells}</svg>'
    )


def _table(sheet: Sheet, document: Document) -> str:
    head = "".join(f"<th>{escape(cell)}</th>" for cell in sheet.head)
    rows = "".join(
        "<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in sheet.rows[:_ROWS_MOST]
    )
    more = len(sheet.rows) - _ROWS_MOST
    rest = f"<p>{escape(text('more', document.language, count=more))}</p>" if more > 0 else ""
    table = f"<table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>"
    return f"<section><h2>{escape(sheet.title)}</h2>{table}{rest}</section>"
