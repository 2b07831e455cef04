"""`python -m bench` measures every table, `python -m bench NAME ...` the named ones."""

import argparse
import importlib
import subprocess
import sys

TABLES = tuple("table call pieces step plateau imports accuracy sweep scale predict plan".split())


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench", description="Tables of jaxsched against its peers.")
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"one of: {', '.join(TABLES)} (default: all)")
    names = parser.parse_args().names or list(TABLES)
    if unknown := sorted(set(names) - set(TABLES)):
        parser.error(f"no table {', '.join(unknown)}; there are: {', '.join(TABLES)}")
    if len(names) == 1:
        importlib.import_module(f"bench.{names[0]}").measure().publish()
        return 0
    # A process each: the memory and the compilation caches of one table are not a load on the next.
    failed = [name for name in names if subprocess.run([sys.executable, "-m", "bench", name], check=False).returncode]
    if failed:
        print(f"did not run to the end: {', '.join(failed)}", file=sys.stderr)
    return len(failed)


if __name__ == "__main__":
    sys.exit(main())
