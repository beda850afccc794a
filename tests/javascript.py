"""The widgets' formulas as the browser reckons them, to lay beside Python's."""

import json
from pathlib import Path

from dsmini import widgets

FOLDER = Path(widgets.__file__).parent
DECIMALS = 12  # sums of a few weights may differ in the last digit: Python 3.12 adds up more carefully


def in_javascript(page, name, ask, data, planted=None):
    """What `ask`, an expression over a module's exports and `data`, gives; planted: (right, wrong) source text."""
    source = (FOLDER / f"{name}.js").read_text(encoding="utf-8")
    if planted:
        assert planted[0] in source
        source = source.replace(*planted)
    return page.evaluate(
        """async ([source, data]) => {
          const url = URL.createObjectURL(new Blob([source], { type: "text/javascript" }));
          return (await import(url)).ask(data);
        }""",
        [f"{source}\nexport const ask = (data) => {ask};", data],
    )


def rounded(x):
    """Floats rounded, so that only a real difference shows; structures as JSON has them."""
    return json.loads(json.dumps(x), parse_float=lambda text: round(float(text), DECIMALS))
