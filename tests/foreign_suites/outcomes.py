"""Runs the unit tests of a module, or one that is named, and writes what came of each.

    outcomes.py FILE SECONDS NAME

FILE gets a line for each test: its name, a tab, the outcome. A process that is not done after so
many seconds says where it is, and ends.
"""

import faulthandler
import sys
import unittest

from test import support


class Outcomes(unittest.TestResult):
    def __init__(self, file):
        super().__init__()
        self.file = file

    def put(self, test, outcome, error=None):
        print(test.id(), outcome, sep="\t", file=self.file, flush=True)
        if error is not None:
            print(test.id(), outcome, file=sys.stderr)
            print(self._exc_info_to_string(error, test), file=sys.stderr, flush=True)

    def addSuccess(self, test):
        self.put(test, "ok")

    def addFailure(self, test, error):
        self.put(test, "FAIL", error)

    def addError(self, test, error):
        self.put(test, "ERROR", error)

    def addSubTest(self, test, subtest, error):
        if error is not None:
            is_failure = issubclass(error[0], test.failureException)
            self.put(subtest, "FAIL" if is_failure else "ERROR", error)

    def addSkip(self, test, reason):
        self.put(test, "skip: " + reason.replace("\n", " "))

    def addExpectedFailure(self, test, error):
        self.put(test, "expected failure")

    def addUnexpectedSuccess(self, test):
        self.put(test, "unexpected success")


def main():
    to, seconds, name = sys.argv[1:]
    faulthandler.dump_traceback_later(float(seconds), exit=True)
    # What CPython's tests ask for before they call hosts of the internet, or take long.
    support.use_resources = []
    suite = unittest.defaultTestLoader.loadTestsFromName(name)
    with open(to, "w", encoding="utf-8") as file:
        suite.run(Outcomes(file))
    faulthandler.cancel_dump_traceback_later()


if __name__ == "__main__":
    main()
