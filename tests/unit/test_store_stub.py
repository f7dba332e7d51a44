"""The stub of the native module says what the module has, argument by argument."""

from __future__ import annotations

import os
import subprocess
import sys


def test_the_stub_agrees_with_the_compiled_module(repository, tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "mypy.stubtest", "eventbraid._native"],
        cwd=repository,
        env={**os.environ, "MYPY_CACHE_DIR": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
