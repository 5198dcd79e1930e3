import errno
import os

import pytest

from xpuqlib.errors import RecipeError, RunError
from xpuqlib.machine.files import write_whole


def test_texts_and_bytes_are_written_and_replaced(tmp_path):
    for content in ("é\n", b"\x00\xff", "new"):
        write_whole(tmp_path / "a", content)
        expected = content.encode() if isinstance(content, str) else content
        assert [path.read_bytes() for path in tmp_path.iterdir()] == [expected]


@pytest.mark.parametrize("failing", ["os.replace", "pathlib.Path.write_bytes"])
def test_a_full_disk_is_a_clear_error_that_leaves_nothing(tmp_path, monkeypatch, failing):
    (tmp_path / "a").write_text("old")

    def full(*paths):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(failing, full)
    with pytest.raises(RunError, match=r"No space left(?s:.*)Free space"):
        write_whole(tmp_path / "a", "new")
    assert [path.read_text() for path in tmp_path.iterdir()] == ["old"]


def test_the_error_is_that_of_the_caller(tmp_path):
    with pytest.raises(RecipeError, match=r"a cannot be written(?s:.*)Fix: Make a folder\."):
        write_whole(tmp_path / "no" / "a", "new", RecipeError, "Make a folder.")
