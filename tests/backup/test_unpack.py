"""Archives of base backups, unpacked from a stream that arrives in pieces of any size."""

import io
import random
import tarfile
from pathlib import Path

import pytest

from backup.errors import VerificationError
from backup.physical.unpack import unpack

# Around the blocks of an archive, and around the megabyte that is read at a time.
SIZES = (0, 1, 511, 512, 513, 8192, (1 << 20) - 1, 1 << 20, (1 << 20) + 1, 3_000_000)


class Pieces(io.BytesIO):
    """A stream whose reads return as little or as much as they like."""

    def __init__(self, data: bytes, chance: random.Random) -> None:
        super().__init__()
        self._data, self._chance = memoryview(data), chance

    def read(self, size: int | None = -1, /) -> bytes:
        count = self._chance.choice((1, 100, 512, 70_000, 2 << 20))
        piece, self._data = self._data[:count], self._data[count:]
        return bytes(piece)


def archive(contents: dict[str, bytes]) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for name, data in contents.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    return file.getvalue()


@pytest.fixture(scope="module")
def contents() -> dict[str, bytes]:
    chance = random.Random(1)
    return {f"base/{size}": chance.randbytes(size) for size in chance.sample(SIZES, len(SIZES))}


@pytest.mark.parametrize("direct", [False, True])
@pytest.mark.parametrize("seed", range(4))
def test_files_arrive_whole_from_pieces_of_any_size(
    contents: dict[str, bytes], seed: int, tmp_path: Path, direct: bool
) -> None:
    written: list[tuple[Path, int]] = []
    unpack(
        Pieces(archive(contents), random.Random(seed)),
        tmp_path / "data",
        lambda: None,
        lambda file, size: written.append((file, size)),
        direct=direct,
    )
    assert {f"base/{path.name}": path.read_bytes() for path in (tmp_path / "data/base").iterdir()} == contents
    assert written == [(tmp_path / "data" / name, len(data)) for name, data in contents.items()]


@pytest.mark.parametrize("missing", [1, 512, 2_000_000])
def test_an_archive_that_ends_in_a_file_is_damaged(missing: int, tmp_path: Path) -> None:
    data = archive({"base/1": bytes(3_000_000)})
    end = 512 + 3_000_000 - missing
    with pytest.raises(VerificationError, match="ends early"):
        unpack(io.BytesIO(data[:end]), tmp_path / "data", lambda: None)
