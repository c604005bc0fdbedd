"""The spill: what was appended whole is read, what was cut short is not, and one writes at a time."""

import threading
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.storage.tick_samples import files, ticks
from tickstock_assets.domain.errors import ConfigError
from tickstock_assets.domain.trades import TICKS
from tickstock_assets.storage.tick_spill import RECORD, Segment, Spill, encoded, unflushed


def record(first: int, number: int = 3) -> bytes:
    [batch] = ticks(first, number).cast(TICKS).combine_chunks().to_batches()
    return encoded(batch)


def ids(table: pa.Table) -> list[int]:
    return [int(text) for text in table["trade_id"].to_pylist()]


@pytest.fixture
def spill(tmp_path: Path) -> Spill:
    return Spill(tmp_path / "ticks")


def test_what_is_appended_is_there_for_others_at_once(spill: Spill) -> None:
    spill.append(record(0))
    spill.append(record(3))
    found = unflushed(spill.folder)
    assert found.schema == TICKS
    assert found.to_pylist() == ticks(0, 6).to_pylist()


def test_segments_are_read_in_their_order_and_a_deleted_one_is_not_missed(spill: Spill) -> None:
    spill.append(record(0))
    first = spill.cut()
    spill.append(record(3))
    assert ids(unflushed(spill.folder)) == [0, 1, 2, 3, 4, 5]
    assert first is not None
    first.drop()
    assert ids(unflushed(spill.folder)) == [3, 4, 5]
    assert first.rows() == 0
    assert list(first.batches()) == []


def test_without_a_folder_nothing_waits(tmp_path: Path) -> None:
    assert unflushed(tmp_path / "nowhere").num_rows == 0


@given(cut=st.integers(1, len(record(3)) - 1))
def test_half_a_record_at_the_end_is_not_read_and_is_no_damage(
    tmp_path_factory: pytest.TempPathFactory, cut: int
) -> None:
    segment = Segment(tmp_path_factory.mktemp("spill") / "000000000001.ticks")
    segment.path.write_bytes(record(0) + record(3)[:cut])
    assert ids(segment.table()) == [0, 1, 2]
    assert not segment.is_damaged()
    segment.drop()
    assert not segment.path.exists()


@given(place=st.integers(0, len(record(3)) - 1), change=st.integers(1, 255))
def test_a_changed_byte_is_noticed_and_the_file_is_kept(
    tmp_path_factory: pytest.TempPathFactory, place: int, change: int
) -> None:
    segment = Segment(tmp_path_factory.mktemp("spill") / "000000000001.ticks")
    broken = bytearray(record(3))
    broken[place] ^= change
    segment.path.write_bytes(record(0) + broken + record(6))
    rows = ids(segment.table())
    # The number of rows is for counting only: the batch itself says how many it has.
    if RECORD.size - 12 <= place < RECORD.size - 8:
        assert rows == list(range(9))
    else:
        assert rows == [0, 1, 2]
        length_grew = RECORD.size - 8 <= place < RECORD.size - 4
        assert segment.is_damaged() or length_grew


def test_a_damaged_segment_is_set_aside_instead_of_deleted(spill: Spill) -> None:
    content = bytearray(record(0) + record(3) + record(6))
    content[len(record(0)) + RECORD.size + 5] ^= 1
    segment = Segment(spill.folder / "000000000009.ticks")
    segment.path.write_bytes(content)
    segment.drop()
    assert files(spill.folder) == ["000000000009.damaged"]
    assert (spill.folder / "000000000009.damaged").read_bytes() == content


def test_a_second_writer_is_told_in_one_sentence(spill: Spill) -> None:
    with pytest.raises(ConfigError, match="expected to be the only one who writes ticks there, found another"):
        Spill(spill.folder)
    spill.close()
    Spill(spill.folder).close()


def test_who_comes_next_finds_the_segments_and_appends_to_none_of_them(spill: Spill) -> None:
    spill.append(record(0) + record(3)[:-1])
    spill.close()
    after = Spill(spill.folder)
    assert [segment.rows() for segment in after.left] == [3]
    after.append(record(6))
    assert ids(unflushed(spill.folder)) == [0, 1, 2, 6, 7, 8]


def test_a_record_that_does_not_fit_the_disk_leaves_what_was_there(
    spill: Spill, monkeypatch: pytest.MonkeyPatch
) -> None:
    import os

    spill.append(record(0))
    write, calls = os.write, []

    def full(descriptor: int, content: memoryview) -> int:
        calls.append(True)
        if len(calls) == 2:
            raise OSError(28, "No space left on device")
        return write(descriptor, content[:40])

    monkeypatch.setattr(os, "write", full)
    with pytest.raises(OSError, match="No space left"):
        spill.append(record(3))
    monkeypatch.undo()
    spill.append(record(6))
    assert ids(unflushed(spill.folder)) == [0, 1, 2, 6, 7, 8]


def test_a_reader_sees_a_whole_beginning_while_records_are_appended_and_segments_deleted(spill: Spill) -> None:
    is_done = threading.Event()
    wrong: list[list[int]] = []

    def read() -> None:
        while not is_done.is_set():
            found = ids(unflushed(spill.folder))
            if found and found != list(range(found[0], found[-1] + 1)):
                wrong.append(found)

    reader = threading.Thread(target=read)
    reader.start()
    for number in range(200):
        spill.append(record(3 * number))
        if number % 10 == 9:
            segment = spill.cut()
            assert segment is not None
            segment.drop()
    is_done.set()
    reader.join()
    assert wrong == []


def test_what_breaks_a_rule_is_left_out_for_readers(spill: Spill) -> None:
    for price in (0.0, float("nan"), 5.0):
        [batch] = ticks(int(price == 5), 1, price=price).cast(TICKS).to_batches()
        spill.append(encoded(batch))
    assert ids(unflushed(spill.folder)) == [1]


def test_the_name_of_a_damaged_file_that_is_kept_is_not_used_again(spill: Spill) -> None:
    spill.close()
    (spill.folder / "000000000007.damaged").write_bytes(b"kept")
    after = Spill(spill.folder)
    after.append(record(0))
    assert files(spill.folder) == ["000000000007.damaged", "000000000008.ticks"]
    after.close()
