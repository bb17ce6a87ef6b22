"""The report of a lab run: one self-contained HTML page from a plain data model."""

from __future__ import annotations

from conformance.lab.report.page import render_page, write_report

__all__ = ["render_page", "write_report"]
