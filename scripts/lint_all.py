"""Runs pkilint over many files in one process.

    lint_all.py < LINES      each line: PROGRAM ARGUMENT... FILE, where PROGRAM is one of pkilint's (lint_crl, …)

Says what is found at WARNING or above, and in which file; ends with 1 if there is something.
"""

import importlib
import sys

clean = True
for line in sys.stdin:
    program, *arguments = line.split()
    print(f"{program} {' '.join(arguments)}", flush=True)
    found = importlib.import_module(f"pkilint.bin.{program}").main(["lint", "-s", "WARNING", *arguments])
    if found:
        clean = False
        print(f"^ {found} findings", flush=True)
sys.exit(0 if clean else 1)
