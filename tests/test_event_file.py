"""Files of TensorBoard events."""

from io import BytesIO

import pytest
from tensorboard.summary.writer.record_writer import RecordWriter

from trainer.observers.event_file import record


@pytest.mark.parametrize("data", [b"", b"a", bytes(range(256)), b"loss" * 10_000])
def test_a_record_has_the_bytes_that_tensorboard_writes(data):
    file = BytesIO()
    RecordWriter(file).write(data)
    assert record(data) == file.getvalue()
