"""Floods a range of ports until it is ended: flood.py FROM HOST FIRST_PORT LAST_PORT.

A program of its own, for its speed.
"""

import socket
import sys


def main():
    source, host, first, last = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
    source_host, source_port = source.rsplit(":", 1)
    flood = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    flood.bind((source_host, int(source_port)))
    print("flooding", flush=True)
    while True:
        for port in range(first, last + 1):
            try:
                flood.sendto(b"foreign", (host, port))
            except OSError:
                pass  # ICMP about an earlier one


main()
