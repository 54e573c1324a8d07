"""QR codes as text, SVG and PNG."""

import io
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import segno

#: Light modules around a code: two are enough for scanners, and then a code of WhatsApp fits into 80 columns.
BORDER_MODULES = 2
#: Pixels of a module in a PNG.
MODULE_PIXELS = 8


def drawn(text: str) -> str:
    """Lines of half blocks, each character two modules high. Light modules are drawn, for a dark terminal."""
    lines = io.StringIO()
    _code(text).terminal(lines, compact=True, border=BORDER_MODULES)
    return lines.getvalue().rstrip("\n")


def svg(text: str) -> bytes:
    """An SVG image that scales to the available width."""
    return _picture(text, "svg", omitsize=True, light="#fff")


def png(text: str) -> bytes:
    """A PNG image of fixed size."""
    return _picture(text, "png")


def _picture(text: str, kind: str, **options: object) -> bytes:
    picture = io.BytesIO()
    _code(text).save(
        picture, kind=kind, scale=1 if kind == "svg" else MODULE_PIXELS, border=2 * BORDER_MODULES, **options
    )
    return picture.getvalue()


def _code(text: str) -> "segno.QRCode":
    import segno  # which few processes need, and most of those seldom

    # The lowest error correction, because a terminal shows the code undamaged, and fewer modules need fewer columns.
    return segno.make(text, error="l", boost_error=False, micro=False)
