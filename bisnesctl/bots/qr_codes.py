"""QR codes to scan: drawn with characters, as SVG, as PNG."""

import io

import segno

#: Light modules around a code: readers manage with two, and a code of WhatsApp's then fits 80 columns.
BORDER = 2
#: Pixels of a module in a picture.
SCALE = 8


def drawn(text: str) -> str:
    """Lines of half blocks, two modules a character high; what is light is drawn, as for a dark window."""
    lines = io.StringIO()
    _code(text).terminal(lines, compact=True, border=BORDER)
    return lines.getvalue().rstrip("\n")


def svg(text: str) -> bytes:
    """A picture that is as wide as it is given room for."""
    return _picture(text, "svg", omitsize=True, light="#fff")


def png(text: str) -> bytes:
    """A picture of fixed size."""
    return _picture(text, "png")


def _picture(text: str, kind: str, **options: object) -> bytes:
    picture = io.BytesIO()
    _code(text).save(picture, kind=kind, scale=1 if kind == "svg" else SCALE, border=2 * BORDER, **options)
    return picture.getvalue()


def _code(text: str) -> segno.QRCode:
    # The least correction: a window shows it whole, and every module less is a column less.
    return segno.make(text, error="l", boost_error=False, micro=False)
