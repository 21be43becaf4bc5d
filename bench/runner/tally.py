"""Reads the tallies of the benchmark's programs (tests/traffic/tally.hpp) while they work."""

import collections
import mmap
import os
import struct

FIELDS = ("sent", "unsent", "received", "foreign", "damaged", "disordered", "checked", "idle_ns")
Counts = collections.namedtuple("Counts", FIELDS)


class Tally:
    def __init__(self, path):
        self.path = path
        with open(path, "wb") as file:
            file.truncate(8 * len(FIELDS))
        self._map = None

    def read(self):
        if self._map is None:
            # The program made the file anew when it started.
            with open(self.path, "rb") as file:
                if os.fstat(file.fileno()).st_size < 8 * len(FIELDS):
                    return Counts(*[0] * len(FIELDS))
                self._map = mmap.mmap(file.fileno(), 8 * len(FIELDS), prot=mmap.PROT_READ)
        return Counts(*struct.unpack(f"={len(FIELDS)}Q", self._map[:]))
