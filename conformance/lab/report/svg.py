"""Small helpers for SVG as text."""

from __future__ import annotations

from html import escape

__all__ = ["clip_label", "element", "text_width"]

_NARROW = set("iljtfr.,:;'|!()[] I")
_WIDE = set("mwMW@%—")


def text_width(text: str, font_px: float) -> float:
    """Width of ``text`` in pixels, estimated for a plain sans-serif face; errs on the wide side."""
    units = sum(0.36 if c in _NARROW else 0.95 if c in _WIDE else 0.7 if c.isupper() else 0.6 for c in text)
    return units * font_px


def clip_label(text: str, room_px: float, font_px: float) -> str:
    """``text``, cut with an ellipsis where it would need more than ``room_px``."""
    if text_width(text, font_px) <= room_px:
        return text
    while text and text_width(text + "…", font_px) > room_px:
        text = text[:-1]
    return text.rstrip() + "…"


def element(name: str, content: str = "", /, *, title: str = "", **attributes: object) -> str:
    """``<name …>content</name>``; ``cls`` becomes class, underscores become hyphens; ``content`` is markup."""
    parts = [name]
    for key, value in attributes.items():
        key = "class" if key == "cls" else key.replace("_", "-")
        shown = f"{value:.1f}".rstrip("0").rstrip(".") if isinstance(value, float) else escape(str(value), quote=True)
        parts.append(f'{key}="{shown}"')
    inner = (f"<title>{escape(title)}</title>" if title else "") + content
    return f"<{' '.join(parts)}>{inner}</{name}>" if inner else f"<{' '.join(parts)}/>"
