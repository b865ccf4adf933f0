"""What a run of the tests says of each way of training, for `support_table.py`."""

from __future__ import annotations

import json
from pathlib import Path


class Results:
    """Notes how the tests with a `way` ended, and writes it when all have.

    Args:
        path: The file to write, in JSON.
        backend: Keras's backend.
    """

    def __init__(self, path, backend):
        self.path = Path(path)
        self.backend = backend
        self.tests = {}

    def pytest_collection_modifyitems(self, items):
        for item in items:
            marks = list(item.iter_markers("way"))
            if marks:
                everywhere = any(mark.kwargs.get("everywhere") for mark in marks)
                item.user_properties += [
                    ("ways", [mark.args[0] for mark in marks]),
                    ("everywhere", everywhere),
                ]

    def pytest_runtest_logreport(self, report):
        properties = dict(report.user_properties)
        if "ways" not in properties or (report.when != "call" and report.passed):
            return
        outcome, text = ended(report, properties)
        if report.nodeid in self.tests and outcome == "works":
            return  # a teardown adds nothing, unless it fails
        self.tests[report.nodeid] = {
            "ways": properties["ways"],
            "everywhere": properties["everywhere"],
            "outcome": outcome,
            "text": text,
        }

    def pytest_sessionfinish(self):
        self.path.parent.mkdir(parents=True, exist_ok=True)
        found = {"backend": self.backend, "tests": self.tests}
        self.path.write_text(json.dumps(found, indent=1, ensure_ascii=False))


def ended(report, properties):
    """How a test ended, and what there is to say of it."""
    if report.failed:
        return "failed", ""
    if report.passed:
        fails = properties.get("fails")  # and the test shows how
        return ("fails", fails) if fails else ("works", properties.get("limit", ""))
    if hasattr(report, "wasxfail"):
        return "fails", report.wasxfail.removeprefix("reason: ")
    *_, why = report.longrepr
    return "skipped", why.removeprefix("Skipped: ")
