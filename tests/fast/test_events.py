"""What tests wait by."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from tests.support.events import has_ended, until

WRITE = """
import sys
from pathlib import Path
print(flush=True); sys.stdin.readline()
folder = Path(sys.argv[1], "later", "deeper")
folder.mkdir(parents=True)
Path(folder, "log").write_text("one\\n")
with Path(folder, "log").open("a") as log: log.write("two\\n")
"""


def test_a_line_in_a_folder_that_is_made_later(tmp_path: Path) -> None:
    path = tmp_path / "later/deeper/log"
    asked: list[bool] = []
    with subprocess.Popen(
        [sys.executable, "-c", WRITE, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as other:
        assert other.stdout is not None
        other.stdout.readline()

        def is_there() -> bool:
            asked.append(path.is_file() and "two" in path.read_text())
            if len(asked) == 1:  # nothing is there yet: the other waits for this
                assert other.stdin is not None
                other.stdin.close()
            return bool(asked[-1])

        assert until(is_there, tmp_path, 600)
        assert has_ended(other.pid, 600) and other.wait() == 0
    assert 2 <= len(asked) <= 20  # asked where something happened, not all the time


def test_what_does_not_come(tmp_path: Path) -> None:
    assert not until(lambda: False, tmp_path, 0)
    assert not has_ended(os.getpid(), 0)
