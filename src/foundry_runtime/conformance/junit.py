"""A report as JUnit's XML, which continuous integration reads.

Knows: how outcomes become failures and skips, and which characters XML cannot have.
Refuses to know: where the report is written, and what a case tries.
"""

from __future__ import annotations

from xml.etree.ElementTree import Element, SubElement, tostring

from foundry_proto.conformance import Report, Verdict

__all__ = ["junit"]


def junit(report: Report) -> bytes:
    """Write a report: one test case for each case, named by its id; levels stand in the class's name."""
    verdicts = report.verdicts
    suite = Element(
        "testsuite",
        name="foundry conformance",
        tests=str(len(verdicts)),
        failures=str(sum(verdict.bad for verdict in verdicts)),
        skipped=str(sum(not verdict.bad and verdict.outcome != "passed" for verdict in verdicts)),
        time=f"{report.seconds:.3f}",
    )
    for verdict in verdicts:
        _add(suite, verdict)
    document: bytes = tostring(suite, encoding="utf-8", xml_declaration=True)
    return document


def _add(suite: Element, verdict: Verdict) -> None:
    case = verdict.case
    classname = f"{case.level}.{case.id.partition('.')[0]}"
    test = SubElement(suite, "testcase", classname=classname, name=case.id, time=f"{verdict.seconds:.3f}")
    text = _printable(f"{verdict.aspect}: {verdict.message}" if verdict.aspect else verdict.message)
    if verdict.bad:
        failure = SubElement(test, "failure", message=text, type=verdict.outcome)
        failure.text = f"{case.requirement}\n({case.level}, {case.source})\n{text}"
    elif verdict.outcome != "passed":
        SubElement(test, "skipped", message=f"{verdict.outcome}: {text}")


def _printable(text: str) -> str:
    """Text without what XML cannot have."""
    return "".join(char if char.isprintable() else "\ufffd" for char in text)
