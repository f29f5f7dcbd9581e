"""Ends with an error unless headrace is the installed wheel and the checkout's src is not on the path.

`make test-wheel` runs it before the suite, in the folder and with the interpreter that the suite gets.
"""

import pathlib
import sys

import headrace

src = pathlib.Path(__file__).resolve().parents[2] / "src"
origin = pathlib.Path(headrace.__file__ or "").resolve()
if not origin.is_relative_to(pathlib.Path(sys.prefix).resolve()) or "site-packages" not in origin.parts:
    sys.exit(
        f"headrace comes from {origin}, not from the wheel installed in {sys.prefix}; make test-wheel builds that anew"
    )
if src in [pathlib.Path(entry).resolve() for entry in sys.path]:
    sys.exit(f"{src} is on the path, so the tests would see the checkout; is PYTHONPATH set?")
