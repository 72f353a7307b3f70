"The names of findings: fourteen, each once, and importable without anything else."

import subprocess
import sys

from support import child_environment

from medret_nb.data.finding_names import FINDINGS


def test_there_are_fourteen_each_once():
    assert len(FINDINGS) == len(set(map(str.lower, FINDINGS))) == 14 and FINDINGS[0] == "No Finding"


def test_they_need_no_tables():
    seen = "import sys, medret_nb.data.finding_names; print('pandas' in sys.modules or 'numpy' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", seen], capture_output=True, text=True, env=child_environment())
    assert done.stdout.split() == ["False"], done.stderr
