"""The help of every tool comes at once: it imports nothing large."""

import json
import subprocess
import sys
from pathlib import Path

TOOLS = Path(__file__).parents[2] / 'tools'
CODE = """
import io, json, runpy, sys
from contextlib import redirect_stdout
heavy = {'torch', 'mmengine', 'mmcv', 'mmdet', 'castkd'}
found = {}
for path in sys.argv[1:]:
    sys.argv = [path, '--help']
    text = io.StringIO()
    try:
        with redirect_stdout(text):
            runpy.run_path(path, run_name='__main__')
    except SystemExit as end:
        found[path] = end.code, text.getvalue(), sorted(heavy & set(sys.modules))
print(json.dumps(found))
"""


def test_help_imports_nothing_large():
    tools = sorted(str(path) for path in TOOLS.rglob('*.py'))
    run = subprocess.run(
        [sys.executable, '-c', CODE, *tools], capture_output=True, text=True, check=True
    )
    found = json.loads(run.stdout)
    assert sorted(found) == tools
    for path, (status, text, imported) in found.items():
        assert (status, imported) == (0, []), path
        assert text.startswith('usage: '), path
