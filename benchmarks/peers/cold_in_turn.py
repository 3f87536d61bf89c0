"""Reads 8 KB of each file, one after the other: what a program waits for that fetches nothing ahead.

Usage: cold_in_turn.py FOLDER OUTPUT
"""

import os
import sys


def main():
    for place, folders, names in os.walk(sys.argv[1]):
        folders.sort()
        for name in sorted(names):
            descriptor = os.open(f"{place}/{name}", os.O_RDONLY)
            os.read(descriptor, 8192)
            os.close(descriptor)


main()
