# Every recipe is a line you could type by hand. Windows, or no make? The README lists the same steps.
#   make book             set up, build, serve on this computer       (SERVE=0: only build; PORT=8123)
#   make test             everything that CI checks
#   make lab              JupyterLab on the chapters
#   make sync             copy the package's code into the chapters' marked cells
#   make notebooks        run the chapters again and store their outputs
#   make figures          the chapters' figures at slide size, into _build/figures
#   make zoo              train the book's models again         (NAMES=base: only these)
#   make assignments      build the problem sets for students     (assignments/release)
#   make grade SUBMISSIONS=dir    grade what they handed in       (assignments/graded; ROSTER=file, JOBS=4)
#   make lock             resolve the pinned versions again
#   make clean            remove what was built             (the environment stays; `rm -rf .venv` removes it)

PYTHON ?= python3
PORT ?= 8000
SERVE ?= 1
NAMES ?=
PIP_ARGS ?=
SUBMISSIONS ?=
ROSTER ?=
JOBS ?=
VENV ?= .venv
BIN = $(VENV)/bin
HTML = _build/html
BUILD = $(BIN)/jupyter-book build . --path-output . -W --keep-going --all

.PHONY: book test lab sync notebooks figures zoo assignments grade lock clean lint unit chapters classroom site browser
.DEFAULT_GOAL := book
.NOTPARALLEL:

$(VENV)/.python:
	@$(PYTHON) -c "import sys; sys.exit(0 if sys.version_info >= (3, 11) else 'Python 3.11 or newer is needed, but \
	$(PYTHON) is %d.%d. Name another one: make book PYTHON=python3.12' % sys.version_info[:2])"
	$(PYTHON) -m venv $(VENV)
	@touch $@

$(VENV)/.book: requirements.txt pyproject.toml | $(VENV)/.python
	@echo "== Installing the pinned packages into $(VENV) (the first time this takes minutes)"
	$(BIN)/python -m pip install $(PIP_ARGS) -r requirements.txt
	$(BIN)/python -m pip install --no-deps --no-build-isolation -e .
	@touch $@

$(VENV)/.test: requirements-test.txt $(VENV)/.book
	@echo "== Installing what the tests need"
	$(BIN)/python -m pip install $(PIP_ARGS) -r requirements-test.txt
	@touch $@

$(VENV)/.classroom: requirements-classroom.txt $(VENV)/.book
	@echo "== Installing what grading needs"
	$(BIN)/python -m pip install $(PIP_ARGS) -r requirements-classroom.txt
	@touch $@

book: $(VENV)/.book
	@echo "== Building the book"
	$(BUILD)
ifeq ($(SERVE),0)
	@echo "== The book is in $(HTML)/index.html"
else
	@echo "== Read the book at http://localhost:$(PORT)/    (Ctrl+C stops the server)"
	$(BIN)/python -m http.server $(PORT) --bind 127.0.0.1 --directory $(HTML)
endif

# One thread: on a shared machine more threads only burn CPU seconds, and the recorded costs assume it.
test notebooks unit chapters classroom browser zoo grade: export OMP_NUM_THREADS = 1

test: lint unit chapters classroom site browser
	@echo "== All tests passed"

lint: $(VENV)/.test
	@echo "== 1/6 Style and spelling"
	$(BIN)/ruff check .
	$(BIN)/codespell

unit: $(VENV)/.test
	@echo "== 2/6 Unit tests"
	$(BIN)/python -m pytest tests --ignore tests/notebooks --ignore tests/browser --ignore tests/assignments

chapters: $(VENV)/.test
	@echo "== 3/6 Chapters: recipe, code equal to the package, every cell run again and compared"
	$(BIN)/python -m pytest tests/notebooks chapters --nbval --nbval-current-env \
	  --nbval-cell-timeout 600 --nbval-sanitize-with tests/notebooks/sanitize.cfg

classroom: $(VENV)/.test $(VENV)/.classroom
	@echo "== 4/6 Problem sets: answers right and wrong, hostile submissions, a simulated class"
	$(BIN)/python -m pytest tests/assignments assignments/source --nbval --nbval-current-env \
	  --nbval-cell-timeout 600 --nbval-sanitize-with tests/notebooks/sanitize.cfg

site: $(VENV)/.test
	@echo "== 5/6 The book builds without a warning"
	$(BUILD)

browser: $(VENV)/.test
	@echo "== 6/6 The pages in a browser"
	$(BIN)/python -m pytest tests/browser

# JupyterLab would look for its own updates and news; nothing in this book reaches the network.
lab: $(VENV)/.book
	$(BIN)/jupyter lab chapters \
	  --LabApp.news_url=None --LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate

sync: $(VENV)/.book
	$(BIN)/python book/_tools/sync.py write

notebooks: $(VENV)/.book
	$(BIN)/python book/_tools/notebooks.py run

figures: $(VENV)/.book
	$(BIN)/python book/_tools/figures.py

zoo: $(VENV)/.book
	$(BIN)/python -m dsmini.zoo build $(NAMES)

assignments: $(VENV)/.classroom
	$(BIN)/python assignments/_tools/release.py

grade: $(VENV)/.classroom
	$(BIN)/python assignments/_tools/grade.py "$(SUBMISSIONS)" $(if $(ROSTER),--roster "$(ROSTER)") $(if $(JOBS),--jobs $(JOBS))

lock: $(VENV)/.python
	$(BIN)/python -m pip install -q uv
	$(BIN)/python book/_tools/lock.py

clean:
	rm -rf _build build dist *.egg-info .pytest_cache .ruff_cache .hypothesis
	find assignments book chapters dsmini tests -name __pycache__ -prune -exec rm -rf {} +
