"""The folder bench/ is where its scripts look for their library; here it comes last, behind all that tests import."""

import sys

from checkout import ROOT

sys.path.append(str(ROOT / "bench"))
