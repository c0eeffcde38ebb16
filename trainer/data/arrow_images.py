"""Encoded images in columns of Arrow files, at their offsets; those of Parquet, which is compressed, are copied to the cache."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from trainer.data.cache import cache_dir
from trainer.data.sources import Archive, Members, Source, names_array, stamp
from trainer.errors import ConfigError, Problem
from trainer.files import atomic_path

if TYPE_CHECKING:
    import pyarrow as pa

ROWS_AT_ONCE = 256  # of a Parquet file; a row may hold megabytes


def is_parquet(file: Path) -> bool:
    """Return whether a file is a Parquet file, by its name."""
    return file.suffix.lower() in (".parquet", ".pq")


def holds_images(field: pa.Field, feature: dict[str, object]) -> bool:
    """Return whether a column holds encoded images: bytes, or a struct of bytes and a path.

    Args:
        field: The column.
        feature: What Hugging Face ``datasets`` says of it: an ``Image``, or something else in the same form; {} for nothing.
    """
    import pyarrow.types as types

    if feature.get("_type", "Image") not in ("Image", "Value"):
        return False
    kind = field.type
    if types.is_struct(kind):
        inner = {kind.field(i).name: kind.field(i).type for i in range(kind.num_fields)}
        return set(inner) <= {"bytes", "path"} and "bytes" in inner and _is_bytes(inner["bytes"])
    return _is_bytes(kind)


def _is_bytes(kind: pa.DataType) -> bool:
    import pyarrow.types as types

    return types.is_binary(kind) or types.is_large_binary(kind) or types.is_fixed_size_binary(kind)


def read_batches(file: Path, columns: list[str] | None = None) -> Iterator[pa.RecordBatch]:
    """Yield the rows of a Parquet or Arrow file; ``columns`` are those needed, None for all."""
    import pyarrow as pa
    import pyarrow.parquet as parquet

    if is_parquet(file):
        with parquet.ParquetFile(file) as opened:
            yield from opened.iter_batches(ROWS_AT_ONCE, columns=columns)
        return
    for batch in _record_batches(pa.memory_map(str(file)).read_buffer()):
        yield batch if columns is None else batch.select(columns)


def _record_batches(data: pa.Buffer) -> Iterator[pa.RecordBatch]:
    """Yield the batches of an Arrow stream, which ``datasets`` writes, or of an Arrow file."""
    import pyarrow as pa

    if data.slice(0, 6).to_pybytes() == b"ARROW1":
        reader = pa.ipc.open_file(pa.BufferReader(data))
        yield from (reader.get_batch(i) for i in range(reader.num_record_batches))
        return
    yield from pa.ipc.open_stream(pa.BufferReader(data))


def locate(file: Path, column: str, names: Sequence[str], known_as: Path) -> list[Source] | Members:
    """Return where each image of a column is: in the file, in its copy in the cache, or in a file that the column names.

    Args:
        file: A Parquet or Arrow file.
        column: A column that holds images.
        names: The name of each row.
        known_as: The data set as the user knows it; paths in it are relative to the directory that it lies in.
    """
    archive = _cached(file, column) if is_parquet(file) else file
    found = _offsets(archive, column)
    if found is None:
        archive = _cached(file, column)
        found = _offsets(archive, column)
    assert found is not None  # what is written to the cache is not compressed
    offsets, lengths, paths = found
    members = Members(
        [Archive(archive, known_as)], np.zeros(len(offsets), np.int32), offsets, lengths, names_array(names)
    )
    if not any(paths):
        return members
    return [known_as.parent / path if path else members[i] for i, path in enumerate(paths)]


def _offsets(file: Path, column: str) -> tuple[np.ndarray, np.ndarray, list[str | None]] | None:
    """Return the offset and length of each image and the path of those without bytes; None if any is not in the file as it is."""
    import pyarrow as pa

    data = pa.memory_map(str(file)).read_buffer()
    offsets, lengths, paths = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)], []
    for batch in _record_batches(data):
        encoded, named = _bytes_and_paths(batch.column(column))
        if pa.types.is_fixed_size_binary(encoded.type):
            return None
        _, starts, content = encoded.buffers()
        kind = np.int64 if pa.types.is_large_binary(encoded.type) else np.int32
        first, count = encoded.offset, len(encoded)
        bounds = (
            np.frombuffer(starts, kind)[first : first + count + 1].astype(np.int64) if count else np.zeros(1, np.int64)
        )
        start = content.address - data.address if content is not None and content.size else 0
        if start < 0 or start + (content.size if content is not None else 0) > data.size:
            return None
        offsets.append(bounds[:-1] + start)
        lengths.append(np.diff(bounds))
        paths += named
    return np.concatenate(offsets), np.concatenate(lengths), paths


def _bytes_and_paths(array: pa.Array) -> tuple[pa.Array, list[str | None]]:
    """Return the bytes of a column of images, and the path of each image without bytes."""
    import pyarrow.types as types

    if not types.is_struct(array.type):
        return array, [None] * len(array)
    children = dict(zip((field.name for field in array.type), array.flatten(), strict=True))
    encoded = children["bytes"]
    if not encoded.null_count or "path" not in children:
        return encoded, [None] * len(array)
    present = encoded.is_valid().to_pylist()
    paths = children["path"].to_pylist()
    return encoded, [None if there else path for there, path in zip(present, paths, strict=True)]


def _cached(file: Path, column: str) -> Path:
    """Return a copy of a column as an uncompressed Arrow file, in the cache."""
    import pyarrow as pa

    digest = hashlib.blake2b(f"{stamp(file)}{column}".encode(errors="surrogateescape"), digest_size=16).hexdigest()
    path = cache_dir("archives") / f"{digest}.arrow"
    if path.is_file():
        return path
    try:
        with atomic_path(path) as temporary, temporary.open("wb") as output:
            writer = None
            for batch in read_batches(file, [column]):
                encoded, paths = _bytes_and_paths(batch.column(column))
                arrays = [encoded.cast(pa.large_binary()), pa.array(paths, pa.string())]
                image = pa.StructArray.from_arrays(arrays, ["bytes", "path"])
                rows = pa.record_batch({column: image})
                writer = writer or pa.ipc.new_stream(output, rows.schema)
                writer.write_batch(rows)
            if writer is not None:
                writer.close()
    except OSError as error:
        text = f"the images of {file} cannot be copied to {path.parent}: {error.strerror or error}"
        raise ConfigError(Problem("data.path", str(file), text, "another $TRAINER_CACHE")) from None
    return path
