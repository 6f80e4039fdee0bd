# Written by tools/export.py from 05_going_modular.ipynb: edit there, not here.
"""``python -m going_modular.train``, a door that other courses know."""

import sys

from going_modular.__main__ import main

if __name__ == "__main__" and "__file__" in globals():
    sys.argv.insert(1, "train")
    sys.exit(main())
