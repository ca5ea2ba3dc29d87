"""What the device is and has, on machines that lack half of it."""

from __future__ import annotations

import os
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest
from fallow_agent.host.disk import DiskReader, free_bytes, medium_of, write_bytes_per_day, written_bytes
from fallow_agent.host.environment import os_name
from fallow_agent.host.processor import ProcessorReader, temperature_c
from fallow_wire.fields import decode, encode
from fallow_wire.session import Disk, Processor


def sys_block(root: Path, directory: Path, disk: str, rotational: str | None) -> Path:
    """/sys/dev/block with the device of ``directory`` as a partition of ``disk``."""
    partition = root / "devices" / disk / f"{disk}p1"
    partition.mkdir(parents=True)
    if rotational is not None:
        (partition.parent / "queue").mkdir()
        (partition.parent / "queue" / "rotational").write_text(rotational + "\n")
        (partition.parent / "device").mkdir()
        (partition.parent / "device" / "type").write_text("MMC\n" if disk == "mmcblk1" else "SD\n")
    device = os.stat(directory).st_dev
    links = root / "block"
    links.mkdir()
    (links / f"{os.major(device)}:{os.minor(device)}").symlink_to(partition)
    return links


@pytest.mark.parametrize(
    ("disk", "rotational", "medium"),
    [
        ("sda", "1", "hdd"),
        ("nvme0n1", "0", "ssd"),
        ("mmcblk0", "0", "sd"),
        ("mmcblk1", "0", "flash"),
        ("mtdblock3", "0", "flash"),
        ("x", None, "unknown"),
    ],
)
def test_the_medium_as_the_kernel_tells_it(tmp_path: Path, disk: str, rotational: str | None, medium: str) -> None:
    mounts = tmp_path / "mounts"
    mounts.write_text("/dev/root / ext4 rw 0 0\n")
    assert medium_of(tmp_path, mounts, sys_block(tmp_path, tmp_path, disk, rotational)) == medium


def test_a_ram_disk_is_found_by_its_mount(tmp_path: Path) -> None:
    mounts = tmp_path / "mounts"
    mounts.write_text(f"/dev/root / ext4 rw 0 0\ntmpfs {tmp_path} tmpfs rw 0 0\nbroken\n")
    assert medium_of(tmp_path / "content", mounts) == "ram"
    odd = tmp_path / "a blank and é"
    mounts.write_text(f"/dev/root / ext4 rw 0 0\nubi0 {str(odd).replace(' ', chr(92) + '040')} ubifs rw 0 0\n")
    assert medium_of(odd / "content", mounts) == "flash"
    assert medium_of(tmp_path, tmp_path / "missing", tmp_path) == "unknown"


def test_a_missing_directory_has_no_room(tmp_path: Path) -> None:
    assert free_bytes(tmp_path / "missing") == 0
    assert free_bytes(tmp_path) > 0


def test_what_a_medium_bears_in_a_day(tmp_path: Path) -> None:
    card = 16 * 10**9
    for medium in ("sd", "flash"):
        assert write_bytes_per_day(medium, card, None) == 500_000_000
        assert write_bytes_per_day(medium, card, 0) is None
    for medium in ("hdd", "ssd", "ram", "unknown"):
        assert write_bytes_per_day(medium, card, None) is None
        assert write_bytes_per_day(medium, card, 5) == 5, "the owner's word wins"
    assert DiskReader(tmp_path).write_bytes_per_day(7) == 7
    assert DiskReader(tmp_path / "missing").write_bytes_per_day(0) is None


def test_what_this_process_had_written_is_the_kernels_count(tmp_path: Path) -> None:
    file = tmp_path / "io"
    file.write_text("rchar: 1\nwchar: 2\nread_bytes: 3\nwrite_bytes: 4096\ncancelled_write_bytes: 5\n")
    assert written_bytes(file) == 4096
    file.write_text("rchar: 1\nwrite_bytes: x\n")
    assert written_bytes(file) == 0
    assert written_bytes(tmp_path / "missing") == 0


def test_what_is_read_can_be_reported(tmp_path: Path) -> None:
    disk = DiskReader(tmp_path).read(100, 5)
    assert decode(Disk, encode(disk), strict=True) == disk
    processor = ProcessorReader().read()
    assert decode(Processor, encode(processor), strict=True) == processor


def test_a_kernel_that_tells_nothing_is_tolerated(monkeypatch: pytest.MonkeyPatch) -> None:
    def denied(*args: object) -> None:
        raise PermissionError

    for name in ("cpu_percent", "virtual_memory", "sensors_temperatures"):
        monkeypatch.setattr(psutil, name, denied)
    processor = ProcessorReader().read()
    assert (processor.spare_percent, processor.memory_free_bytes, processor.temperature_c) == (0, 0, None)


def test_broken_sensors_are_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    def sensors(*readings: float) -> dict[str, list[SimpleNamespace]]:
        return {"chip": [SimpleNamespace(current=reading) for reading in readings]}

    monkeypatch.setattr(psutil, "sensors_temperatures", lambda: sensors(-40.0, 48.6, 255.0, 51.4))
    assert temperature_c() == 51
    monkeypatch.setattr(psutil, "sensors_temperatures", lambda: sensors(0.0, 65535.0))
    assert temperature_c() is None


def test_the_systems_name(tmp_path: Path) -> None:
    release = tmp_path / "os-release"
    release.write_text('NAME=x\nPRETTY_NAME="OpenWrt 24.10.1"\n')
    assert os_name(release) == "OpenWrt 24.10.1"
    assert os_name(tmp_path / "missing")
