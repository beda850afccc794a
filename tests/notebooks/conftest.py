"""nbval runs every chapter once; here its kernels are measured before they stop, and its outputs are tidied.

The figures are compared with those recorded in the chapter (book/_tools/notebooks.py holds the limits), and a chapter
that costs more than twice the seconds or 1.25 times the memory fails the run.
"""

import nbformat
import nbval.plugin
import pytest

import notebooks

COSTS = pytest.StashKey[dict]()


def pytest_configure(config):
    config.stash[COSTS] = {}
    teardown, compare = nbval.plugin.IPyNbFile.teardown, nbval.plugin.IPyNbCell.compare_outputs

    def measured_teardown(self):
        if self.kernel is not None and self.kernel.is_alive():
            config.stash[COSTS][self.path] = notebooks.measure(self.kernel.km.provisioner.pid)
        teardown(self)

    def tidy_compare(self, test, ref, skip_compare=None):
        """Compare what the runner would store: no progress bars, no addresses."""
        return compare(self, notebooks.tidy_outputs([nbformat.from_dict(output) for output in test]), ref, skip_compare)

    nbval.plugin.IPyNbFile.teardown = measured_teardown
    nbval.plugin.IPyNbCell.compare_outputs = tidy_compare


def cost_complaints(config):
    found = []
    for path, cost in config.stash[COSTS].items():
        old = notebooks.recorded(nbformat.read(path, as_version=4))
        found += notebooks.over_recorded(notebooks.short(path), cost, old)
    return found + notebooks.over_total(config.stash[COSTS].values())


def pytest_sessionfinish(session, exitstatus):
    if exitstatus == pytest.ExitCode.OK and cost_complaints(session.config):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter, config):
    costs = config.stash[COSTS]
    if costs:
        terminalreporter.section("cost of the chapters")
    for path, cost in costs.items():
        terminalreporter.line(f"{notebooks.short(path)}: {cost}")
    for complaint in cost_complaints(config):
        terminalreporter.line(f"FAILED {complaint}", red=True)
