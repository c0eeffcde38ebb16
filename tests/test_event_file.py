"""Files of TensorBoard events."""

from io import BytesIO

import cv2
import numpy as np
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.summary.writer.record_writer import RecordWriter

from trainer.observers.event_file import record
from trainer.observers.event_writer import LazyEventWriter, write_png


@pytest.mark.parametrize("data", [b"", b"a", bytes(range(256)), b"loss" * 10_000])
def test_a_record_has_the_bytes_that_tensorboard_writes(data):
    file = BytesIO()
    RecordWriter(file).write(data)
    assert record(data) == file.getvalue()


def test_tensorboard_reads_an_image_as_its_file_has_it(tmp_path):
    file = tmp_path / "image.png"
    file.write_bytes(cv2.imencode(".png", np.zeros((3, 5, 3), np.uint8))[1].tobytes())
    events = LazyEventWriter(tmp_path / "run")
    (tmp_path / "run").mkdir()
    write_png(events(), "filters", file, 7)
    events.close()
    accumulator = EventAccumulator(str(tmp_path / "run"))
    accumulator.Reload()
    [image] = accumulator.Images("filters")
    assert (image.step, image.height, image.width, image.encoded_image_string) == (7, 3, 5, file.read_bytes())
