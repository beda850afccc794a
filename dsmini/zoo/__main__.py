"""The zoo from the command line.

    python -m dsmini.zoo build             train every model again and replace what the package ships (`make zoo`)
    python -m dsmini.zoo build base        only these
    python -m dsmini.zoo check             whether what is stored fits its recipes

A build that is stopped goes on where it was when it is started again.
"""

import argparse
import sys

from dsmini import zoo
from dsmini.zoo import store
from dsmini.zoo.recipe import find


def main(arguments=None):
    """Returns the exit status: 1 if `check` found a file that does not fit."""
    parser = argparse.ArgumentParser(
        "python -m dsmini.zoo", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True)
    for command in ("build", "check"):
        commands.add_parser(command).add_argument("names", nargs="*", metavar="NAME", help="all without one")
    chosen = parser.parse_args(arguments)
    try:
        recipes = [find(name) for name in chosen.names or zoo.names()]
    except ValueError as error:
        parser.error(str(error))
    return max([_build(recipe) if chosen.command == "build" else _check(recipe) for recipe in recipes])


def _build(recipe):
    record = zoo.build(recipe.name)
    print(f"{recipe.name}: {record['bytes']:,} bytes, {record['cpu_seconds']:.0f} CPU seconds")
    for name, value in record["metrics"].items():
        print(f"  {name} = {value}")
    return 0


def _check(recipe):
    try:
        _, record = store.read(store.SHIPPED, recipe)
    except store.Unfit as fault:
        print(f"{recipe.name}: {fault}")
        return 1
    print(f"{recipe.name}: fits its recipe; {record['bytes']:,} bytes")
    return 0


if __name__ == "__main__":
    sys.exit(main())
