"""What can be wrong with calibration data.

Raised by everything in ``dataset``. The wording only; whatever finds the fault lives with the code that reads.
"""

from __future__ import annotations

from npusim.errors import NpusimError


class DatasetError(NpusimError, ValueError):
    """An archive, a folder or a file in it cannot serve as calibration data.

    Attributes:
        message: what is wrong, without the place.
        source: the archive or folder as the user gave it.
        member: the file in it; "" for the whole.
    """

    def __init__(self, message: str, source: str = "", member: str = "") -> None:
        super().__init__(": ".join(part for part in (source, member, message) if part))
        self.message = message
        self.source = source
        self.member = member

    def at(self, source: str, member: str = "") -> DatasetError:
        """The same, with the place where none is known yet."""
        return DatasetError(self.message, self.source or source, self.member or member)
