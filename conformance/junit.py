"""Verdicts as JUnit XML."""

from __future__ import annotations

import re
from collections.abc import Sequence

from lxml import etree

from conformance.runner import Outcome, Verdict

__all__ = ["junit_xml"]

_NOT_XML = re.compile("[^\t\n\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_ELEMENTS = {Outcome.FAILED: "failure", Outcome.ERROR: "error", Outcome.LEFT_OUT: "skipped"}


def junit_xml(verdicts: Sequence[Verdict]) -> bytes:
    """One suite per area."""
    root = etree.Element("testsuites", {"name": "ims-as-conformance", **_counts(verdicts)})
    for area in dict.fromkeys(verdict.case.area for verdict in verdicts):
        members = [verdict for verdict in verdicts if verdict.case.area == area]
        suite = etree.SubElement(root, "testsuite", {"name": area, **_counts(members)})
        for verdict in members:
            name = verdict.case.name.partition("/")[2]
            seconds = f"{verdict.seconds:.3f}"
            element = etree.SubElement(suite, "testcase", classname=f"conformance.{area}", name=name, time=seconds)
            if verdict.outcome is Outcome.PASSED:
                continue
            message = f"{verdict.case.summary} ({verdict.case.clause})"
            told = etree.SubElement(element, _ELEMENTS[verdict.outcome], message=message)
            text = f"{verdict.detail}\n\n{verdict.ladder}" if verdict.ladder else verdict.detail
            told.text = _NOT_XML.sub("·", text)
    return etree.tostring(root, encoding="UTF-8", xml_declaration=True, pretty_print=True)


def _counts(verdicts: Sequence[Verdict]) -> dict[str, str]:
    return {
        "tests": str(len(verdicts)),
        "failures": str(sum(verdict.outcome is Outcome.FAILED for verdict in verdicts)),
        "errors": str(sum(verdict.outcome is Outcome.ERROR for verdict in verdicts)),
        "skipped": str(sum(verdict.outcome is Outcome.LEFT_OUT for verdict in verdicts)),
        "time": f"{sum(verdict.seconds for verdict in verdicts):.3f}",
    }
