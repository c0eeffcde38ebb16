"""Atomic writes."""

from __future__ import annotations

import pytest

from trainer.files import atomic_path, write_text


def test_a_file_is_written_with_its_directories_and_leaves_no_temporary_file(tmp_path):
    write_text(tmp_path / "new" / "a.txt", "größer")
    assert (tmp_path / "new" / "a.txt").read_text(encoding="utf-8") == "größer"
    assert [p.name for p in (tmp_path / "new").iterdir()] == ["a.txt"]


def test_readers_find_the_old_content_until_the_new_one_is_complete(tmp_path):
    path = tmp_path / "a.txt"
    write_text(path, "old")
    with atomic_path(path) as temporary:
        temporary.write_text("new")
        assert path.read_text() == "old"
    assert path.read_text() == "new"


def test_an_error_leaves_the_old_content_and_no_temporary_file(tmp_path):
    path = tmp_path / "a.txt"
    write_text(path, "old")
    with pytest.raises(RuntimeError, match="interrupted"), atomic_path(path) as temporary:  # noqa: PT012
        temporary.write_text("half")
        raise RuntimeError("interrupted")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]
