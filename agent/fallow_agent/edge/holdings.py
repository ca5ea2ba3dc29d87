"""What the device holds, whole and in part, how it comes here, and the scheduler told of each change."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from fallow_wire.keys import PrivateKey
from fallow_wire.limits import CONTENT_IDS_MAX
from fallow_wire.session import Content

from fallow_agent.clock import Clock
from fallow_agent.host.disk import DiskReader, free_bytes

from .content import ContentConfig, ContentStore
from .filling import FillConfig, Filler, filling_session
from .memory import Memory
from .pulling import Pulls


class Holdings:
    """Made in a running loop.

    :param download_bps: the download budget now. :param may_write: whether the disk may be written to now.
    :param tell: takes what the scheduler shall know.
    """

    def __init__(
        self,
        directory: Path,
        config: ContentConfig,
        filling: FillConfig,
        *,
        key: PrivateKey,
        clock: Clock,
        download_bps: Callable[[], int],
        may_write: Callable[[], bool],
        tell: Callable[[Content], None],
    ) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self.disk = DiskReader(directory)
        wears = self.disk.wears
        memory = Memory.beside(directory, config.memory_bytes_max, instead_of_disk=wears)
        self.content = ContentStore(directory, config, lambda: free_bytes(directory), memory)
        self._http = filling_session(filling)
        self.filler = Filler(self.content, self._http, key, clock, download_bps, filling)
        self.pulls = Pulls(self.content, self.filler, clock, may_write, lambda: wears)
        self._tell = tell
        self.content.on_change = self._whole_changed
        self.pulls.on_change = self._part_changed

    async def close(self) -> None:
        await self.pulls.close()
        self.content.close()
        await self._http.close()

    def _whole_changed(self, added: tuple[str, ...], dropped: tuple[str, ...]) -> None:
        for at in range(0, max(len(added), len(dropped)), CONTENT_IDS_MAX):
            self._tell(Content(added[at : at + CONTENT_IDS_MAX], dropped[at : at + CONTENT_IDS_MAX]))

    def _part_changed(self, object_id: str, held: bool) -> None:
        if not self.content.has(object_id):
            self._tell(Content((), (), partial=(object_id,)) if held else Content((), (object_id,)))
