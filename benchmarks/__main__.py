"""``python -m benchmarks`` lists the cases, runs them, and makes tables and plots of the results.

list                      list the cases
run [CASE...] [--quick]   run some or all. --quick runs those that can be quick, on little data, in
                          a minute. --rounds N has each run its contestants N times. Each writes a
                          record with all samples into build/benchmarks/.
                          Arguments after -- are passed to the case: run scaling -- --db postgres
report [CASE...]          make tables in Markdown and plots of the existing records
"""

from __future__ import annotations

import argparse
import contextlib
import json
import subprocess
import sys
import time
from pathlib import Path

from tests.servers.endings import ending_cleanly

from . import report
from .cases import CASES
from .measure import BUILD, ROOT


def main(argv: list[str] | None = None) -> int:
    argv = sys.argv[1:] if argv is None else argv
    end = argv.index("--") if "--" in argv else len(argv)
    argv, more = argv[:end], argv[end + 1 :]
    arguments = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    arguments.add_argument("action", choices=("list", "run", "report"))
    arguments.add_argument("case", nargs="*", help="one of those that list shows (all)")
    arguments.add_argument("--quick", action="store_true", help="little data, one round")
    arguments.add_argument("--rounds", metavar="N", help="run every contestant N times")
    arguments.add_argument(
        "-o", "--output", type=Path, metavar="FOLDER", default=BUILD,
        help="the folder for records, or for the report and its plots (build/benchmarks)",
    )  # fmt: skip
    options = arguments.parse_intermixed_args(argv)
    unknown = [case for case in options.case if case not in CASES]
    if unknown:
        arguments.error(f"no case {unknown[0]!r}; there are {', '.join(CASES)}")
    if more and (options.action != "run" or len(options.case) != 1):
        arguments.error("arguments after -- need the action run and exactly one case")
    options.output.mkdir(parents=True, exist_ok=True)
    if options.action == "list":
        for name, case in CASES.items():
            print(
                f"{name:12} {case.title(is_quick=False)}{'' if case.quick is None else ' (quick)'}"
            )
        return 0
    if options.action == "report":
        return report.write(options.case or list(CASES), options.output)
    rounds = ["--rounds", options.rounds] if options.rounds else []
    return run(options.case, options.output, [*rounds, *more], quick=options.quick)


def run(cases: list[str], output: Path, more: list[str], *, quick: bool) -> int:
    """Run the cases one after the other. Return the exit code, 1 if any has failed."""
    if quick and (slow := [name for name in cases if CASES[name].quick is None]):
        print(f"{', '.join(slow)}: no quick run; leave out --quick", file=sys.stderr)
        return 2
    names = cases or [name for name, case in CASES.items() if not (quick and case.quick is None)]
    failed = []
    for name in names:
        case, start = CASES[name], time.perf_counter()
        print(f"\n== {name}: {case.title(is_quick=quick)}\n", flush=True)
        module, *words = case.command
        words += [*((case.quick or ()) if quick else ()), *more]
        record = ["--json", str((output / f"{name}.json").resolve())]
        command = [sys.executable, "-m", f"benchmarks.{module}", *words, *record]
        if _run(command):
            failed.append(name)
        elif quick:
            _mark_quick(output / f"{name}.json")
        print(f"({time.perf_counter() - start:.0f} s)", flush=True)
    if failed:
        print(f"\nfailed: {', '.join(failed)}", file=sys.stderr)
    return 1 if failed else 0


def _mark_quick(path: Path) -> None:
    """Note in a record that its numbers are those of a quick run, so that the report says so."""
    with contextlib.suppress(FileNotFoundError):  # some cases write no record
        record = json.loads(path.read_text(encoding="utf-8"))
        path.write_text(json.dumps({**record, "quick": True}, indent=1) + "\n", encoding="utf-8")


def _run(command: list[str]) -> int:
    """Run a case and return its exit code. Pass SIGTERM on to it: it may have a server to end."""
    with ending_cleanly(), subprocess.Popen(command, cwd=ROOT) as process:
        try:
            return process.wait()
        except SystemExit:
            process.terminate()
            raise


if __name__ == "__main__":
    sys.exit(main())
