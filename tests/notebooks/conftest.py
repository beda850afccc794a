"""nbval runs every chapter once; before its kernels stop they are measured and asked to do the chapter's exercises.

The figures are compared with those recorded in the chapter (book/_tools/notebooks.py holds the limits), and a chapter
that costs more than twice the seconds or 1.25 times the memory fails the run. So does an exercise whose solution fails
its own check, or whose check an empty answer passes (book/_tools/exercises.py). Outputs are tidied before comparison.
"""

import nbformat
import nbval.plugin
import pytest

import exercises
import notebooks

COSTS, EXERCISES = pytest.StashKey[dict](), pytest.StashKey[list]()


def pytest_configure(config):
    config.stash[COSTS], config.stash[EXERCISES] = {}, []
    teardown, compare = nbval.plugin.IPyNbFile.teardown, nbval.plugin.IPyNbCell.compare_outputs

    def measured_teardown(self):
        if self.kernel is not None and self.kernel.is_alive():
            config.stash[COSTS][self.path] = notebooks.measure(self.kernel.km.provisioner.pid)
            config.stash[EXERCISES] += exercise_complaints(self)
        teardown(self)

    def tidy_compare(self, test, ref, skip_compare=None):
        """Compare what the runner would store: no progress bars, no addresses."""
        return compare(self, notebooks.tidy_outputs([nbformat.from_dict(output) for output in test]), ref, skip_compare)

    nbval.plugin.IPyNbFile.teardown = measured_teardown
    nbval.plugin.IPyNbCell.compare_outputs = tidy_compare


def exercise_complaints(file):
    """Do a chapter's exercises in its kernel, which holds what the chapter defined."""
    found = exercises.exercises(nbformat.read(file.path, as_version=4))
    if not found:
        return []
    request, printed = file.kernel.execute_cell_input(exercises.kernel_code(found), allow_stdin=False), ""
    while True:
        message = file.kernel.get_message("iopub", timeout=120)
        if message["parent_header"].get("msg_id") != request:
            continue
        if message["msg_type"] == "stream" and message["content"]["name"] == "stdout":
            printed += message["content"]["text"]
        if message["msg_type"] == "status" and message["content"]["execution_state"] == "idle":
            return [f"{notebooks.short(file.path)}: {complaint}" for complaint in exercises.complaints(printed)]


def cost_complaints(config):
    found = []
    for path, cost in config.stash[COSTS].items():
        old = notebooks.recorded(nbformat.read(path, as_version=4))
        found += notebooks.over_recorded(notebooks.short(path), cost, old)
    return found + notebooks.over_total(config.stash[COSTS].values())


def pytest_sessionfinish(session, exitstatus):
    if exitstatus == pytest.ExitCode.OK and (cost_complaints(session.config) or session.config.stash[EXERCISES]):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter, config):
    costs = config.stash[COSTS]
    if costs:
        terminalreporter.section("cost of the chapters")
    for path, cost in costs.items():
        terminalreporter.line(f"{notebooks.short(path)}: {cost}")
    for complaint in cost_complaints(config) + config.stash[EXERCISES]:
        terminalreporter.line(f"FAILED {complaint}", red=True)
