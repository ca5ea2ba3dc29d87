"""A signed statement as a table for spreadsheets, and as a page to read and print, in English and Chinese. Pure.

Both carry the signed statement itself, so that whoever holds a print-out or a file can verify it.
"""

from __future__ import annotations

import csv
import datetime
import io
from collections.abc import Mapping
from html import escape

from fallow_wire.statements import Statement

MICRO = 1_000_000
LANGUAGES = ("en", "zh")
CSV_COLUMNS = (
    "section", "balance", "kind", "direction", "service", "tier", "count", "bytes", "micro_points", "text",
)  # fmt: skip

ZH: Mapping[str, str] = {
    "Statement": "对账单",
    "Account": "账户",
    "Month (UTC)": "月份（UTC）",
    "Made": "生成时间",
    "This month is not over: figures are those of now.": "本月尚未结束：数字为当前值。",
    "Balances": "余额",
    "Balance": "余额",
    "At the start": "月初",
    "At the end": "月末",
    "Movements": "变动",
    "Kind": "种类",
    "In": "转入",
    "Out": "转出",
    "Number": "笔数",
    "Points": "积分",
    "Deliveries": "传输",
    "Service": "服务",
    "Tier": "类别",
    "Data": "数据量",
    "Nothing moved.": "没有变动。",
    "Nothing was settled.": "没有结算。",
    "Journal": "日记账",
    "{entries} entries, ending at {hash}": "共 {entries} 条，末尾为 {hash}",
    "Signature": "签名",
    "This is the statement as the ledger signed it. Anyone can verify it with the ledger's public keys: {command}": (
        "以下是账本签名的对账单原文。任何人都可以用账本的公钥校验：{command}"
    ),
    "held": "暂时保留",
    "vested": "可以兑换",
    "redeeming": "兑换中",
    "redeemed": "已兑换",
    "escrow": "托管",
    "reserved": "已预留",
    "deposit": "充值",
    "reservation": "预留",
    "release": "释放",
    "settlement": "结算",
    "vesting": "到期",
    "redemption": "兑换",
    "fulfilment": "兑现",
    "voiding": "作废退回",
    "clawback": "追回",
    "object": "文件",
    "fill": "设备间复制",
    "live": "直播",
    "probe": "探测",
    "countersigned": "有回执",
    "legacy": "无回执",
}
_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; color: #111; background: #fff; max-width: 46rem; margin: 2rem auto;
       padding: 0 1rem; }
h1 { font-size: 1.5rem; } h2 { font-size: 1.1rem; margin-top: 2rem; }
table { border-collapse: collapse; width: 100%; } caption { text-align: left; }
th, td { text-align: left; padding: .3rem .6rem .3rem 0; border-bottom: 1px solid #bbb; }
td.number, th.number { text-align: right; font-variant-numeric: tabular-nums; padding-right: 0; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .2rem 1.5rem; } dd { margin: 0; }
.signed { font: 11px/1.3 ui-monospace, monospace; overflow-wrap: anywhere; }
code { overflow-wrap: anywhere; }
@media print { body { margin: 0; max-width: none; } tr { break-inside: avoid; } @page { margin: 18mm; } }
"""


def as_csv(statement: Statement, token: str) -> str:
    """One row a figure, columns :data:`CSV_COLUMNS`; the last row's text is the signed statement."""
    rows: list[dict[str, object]] = [
        {"section": "account", "text": statement.account},
        {"section": "month", "text": statement.month},
    ]
    for section, balances in (("opening", statement.opening), ("closing", statement.closing)):
        rows += [{"section": section, "balance": name, "micro_points": left} for name, left in sorted(balances.items())]
    rows += [
        {
            "section": "movement",
            "balance": line.balance,
            "kind": line.kind,
            "direction": line.direction,
            "count": line.entries,
            "micro_points": line.micro_points,
        }
        for line in statement.lines
    ]
    rows += [
        {
            "section": "delivery",
            "service": line.service,
            "tier": line.tier,
            "count": line.settlements,
            "bytes": line.bytes,
            "micro_points": line.micro_points,
        }
        for line in statement.services
    ]
    rows.append({"section": "signed", "text": token})
    written = io.StringIO()
    writer = csv.DictWriter(written, CSV_COLUMNS, restval="")
    writer.writeheader()
    writer.writerows(rows)
    return written.getvalue()


def as_page(statement: Statement, token: str, language: str) -> str:
    """An HTML document without scripts or anything from elsewhere.

    :param language: of :data:`LANGUAGES`.
    """
    say = _Words(ZH if language == "zh" else {})
    names = sorted({*statement.opening, *statement.closing})
    balances = [
        [say(name), points(statement.opening.get(name, 0)), points(statement.closing.get(name, 0))] for name in names
    ]
    movements = [
        [
            say(line.balance),
            say(line.kind),
            say("In" if line.direction == "in" else "Out"),
            str(line.entries),
            points(line.micro_points),
        ]
        for line in statement.lines
    ]
    deliveries = [
        [say(line.service), say(line.tier), str(line.settlements), _bytes(line.bytes), points(line.micro_points)]
        for line in statement.services
    ]
    head = say("{entries} entries, ending at {hash}", entries=str(statement.head.entries), hash=statement.head.hash)
    command = f"fallow statements {statement.month}"
    told = say(
        "This is the statement as the ledger signed it. Anyone can verify it with the ledger's public keys: {command}",
        command=command,
    )
    running = "" if statement.complete else _paragraph(say("This month is not over: figures are those of now."))
    facts = {
        say("Account"): statement.account,
        say("Month (UTC)"): statement.month,
        say("Made"): _moment(statement.iat),
        say("Journal"): head,
    }
    title = f"{say('Statement')} {statement.month}"
    return "".join(
        (
            f'<!doctype html>\n<html lang="{language}">\n<head>\n<meta charset="utf-8">\n',
            '<meta name="viewport" content="width=device-width, initial-scale=1">\n',
            f"<title>{escape(title)}</title>\n<style>{_STYLE}</style>\n</head>\n<body>\n<h1>{escape(title)}</h1>\n",
            running,
            "<dl>" + "".join(f"<dt>{escape(k)}</dt><dd><code>{escape(v)}</code></dd>" for k, v in facts.items()),
            "</dl>\n",
            _section(say("Balances"), [say("Balance"), say("At the start"), say("At the end")], balances, 1, say),
            _section(
                say("Movements"),
                [say("Balance"), say("Kind"), "", say("Number"), say("Points")],
                movements,
                3,
                say,
                "Nothing moved.",
            ),
            _section(
                say("Deliveries"),
                [say("Service"), say("Tier"), say("Number"), say("Data"), say("Points")],
                deliveries,
                2,
                say,
                "Nothing was settled.",
            ),
            f"<h2>{escape(say('Signature'))}</h2>\n{_paragraph(told)}",
            f'<p class="signed">{escape(token)}</p>\n</body>\n</html>\n',
        )
    )


class _Words:
    """A catalogue: English is its key, and what it shows where there is no other."""

    def __init__(self, catalogue: Mapping[str, str]) -> None:
        self._catalogue = catalogue

    def __call__(self, english: str, **values: str) -> str:
        text = self._catalogue.get(english, english)
        return text.format(**values) if values else text


def points(micro_points: int) -> str:
    """Points with up to six places."""
    whole, rest = divmod(micro_points, MICRO)
    return f"{whole:,}" + (f".{rest:06d}".rstrip("0") if rest else "")


def _section(
    title: str,
    headings: list[str],
    rows: list[list[str]],
    numbers_from: int,
    say: _Words,
    empty: str = "Nothing moved.",
) -> str:
    """A table under its heading; columns from ``numbers_from`` on are figures."""
    if not rows:
        return f"<h2>{escape(title)}</h2>\n{_paragraph(say(empty))}"

    def cells(tag: str, row: list[str]) -> str:
        kinds = [' class="number"' if at >= numbers_from else "" for at in range(len(row))]
        return "".join(f"<{tag}{kind}>{escape(cell)}</{tag}>" for cell, kind in zip(row, kinds, strict=True))

    body = "\n".join(f"<tr>{cells('td', row)}</tr>" for row in rows)
    head = f"<tr>{cells('th', headings)}</tr>"
    return f"<h2>{escape(title)}</h2>\n<table>\n<thead>{head}</thead>\n<tbody>\n{body}\n</tbody>\n</table>\n"


def _paragraph(text: str) -> str:
    return f"<p>{escape(text)}</p>\n"


def _bytes(count: int) -> str:
    """Binary units to one place, figures to the byte below a KiB."""
    if count < 1024:
        return f"{count} B"
    value, unit = float(count), "B"
    for larger in ("KiB", "MiB", "GiB", "TiB"):
        if value < 1024:
            break
        value, unit = value / 1024, larger
    return f"{value:,.1f} {unit}"


def _moment(unix_s: int) -> str:
    return datetime.datetime.fromtimestamp(unix_s, datetime.UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
