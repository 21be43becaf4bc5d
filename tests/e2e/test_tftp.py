"""A TFTP server that stays on one port serves through the proxy, as docs/protocols.md says.

    client 10.1.0.2 ──── 10.1.0.1:5353 │ 10.0.0.1 ──── 10.0.0.254:69 dnsmasq, tftp-single-port
"""

import os

from harness.topology import IPV4

_BLOCK_BYTES = 512


def fetch(client, name, server):
    """The file, block by block (RFC 1350), each acknowledged to the port that was asked."""
    content = b""
    question = b"\x00\x01" + name + b"\x00octet\x00"
    while True:
        answer = client.ask(question, server)
        assert answer is not None and answer.source == server
        operation, block, data = answer.payload[:2], answer.payload[2:4], answer.payload[4:]
        assert operation == b"\x00\x03", answer.payload
        content += data
        if len(data) < _BLOCK_BYTES:
            return content
        question = b"\x00\x04" + block


def test_a_file_comes_whole(network, start_process, start_one, open_client, tmp_path):
    content = os.urandom(100_000)
    (tmp_path / "file").write_bytes(content)
    words = (
        "dnsmasq --no-daemon --conf-file=/dev/null --port=0 --user=root --interface=to-proxy "
        f"--enable-tftp --tftp-single-port --tftp-root={tmp_path}"
    )
    daemon = start_process(words.split(), network.service)
    daemon.wait_until(lambda: "TFTP root is" in daemon.text(), what="dnsmasq")
    proxy = start_one(upstream=IPV4.service(254, 69))
    assert fetch(open_client(), b"file", IPV4.listener()) == content
    counters = proxy.stop()
    assert counters["sessions_admitted"] == 1 and counters.drops() == {}
