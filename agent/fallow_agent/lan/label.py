"""The setup code as a QR code: in the terminal, and on a label to print. Pure.

It holds the address of the device's page with the code in its fragment, which a browser never sends to anybody: not in
the request, and the page takes it out of the address at once.
"""

from __future__ import annotations

import html
import io
from typing import TYPE_CHECKING

from fallow_wire.errors import LocalError

if TYPE_CHECKING:
    import segno

QR_SIDE = 60
"""Of the label, in mm, as the rest of its numbers."""


def page_address(host: str, port: int, code: str) -> str:
    """``http://<host>:<port>/#code=<code>``. :param code: without dashes."""
    shown = f"[{host}]" if ":" in host else host
    return f"http://{shown}:{port}/#code={code}"


def terminal(address: str) -> str:
    """The QR code of ``address`` in block characters. :raises LocalError: segno is not installed."""
    text = io.StringIO()
    _qr(address).terminal(text, compact=True)
    return text.getvalue()


def label(address: str, name: str, code: str) -> str:
    """An SVG of 62 × 80 mm: the QR code of ``address``, and below it what people type where it cannot be scanned.

    :param code: as people read it. :raises LocalError: segno is not installed.
    """
    qr = _qr(address)
    modules = qr.symbol_size(border=0)[0]
    squares = qr.svg_inline(border=0, scale=QR_SIDE / modules, svgclass=None, lineclass=None, omitsize=False)
    plain = html.escape(address.partition("#")[0].removeprefix("http://").rstrip("/"))
    return (
        '<svg xmlns="http://www.w3.org/2000/svg" width="66mm" height="86mm" viewBox="0 0 66 86" '
        'font-family="sans-serif" text-anchor="middle">'
        f"<title>Fallow {html.escape(name)}</title>"
        '<rect width="66" height="86" rx="3" fill="#fff"/>'
        f'<g transform="translate(3 3)">{squares}</g>'
        f'<text x="33" y="70" font-size="6.5" font-family="monospace" font-weight="bold">{html.escape(code)}</text>'
        f'<text x="33" y="76" font-size="3.2">{plain}</text>'
        f'<text x="33" y="81.5" font-size="3.2" fill="#555">Fallow · {html.escape(name)}</text>'
        "</svg>\n"
    )


def _qr(address: str) -> segno.QRCode:
    try:
        import segno
    except ImportError:
        raise LocalError("a QR code needs segno; install it with: pip install segno") from None
    return segno.make_qr(address, error="m")
