"""Host names that only the program under test knows, and the DNS servers that only it asks."""


class Hosts:
    """The words before a program that give it an /etc/hosts and, with `nameservers`, an
    /etc/resolv.conf of its own. Both files may be written again at any time."""

    def __init__(self, directory, *lines, nameservers=None):
        self.file = directory / "hosts"
        self.resolv_conf = directory / "resolv.conf"
        self.write(*lines)
        mounts = 'mount --bind "$0" /etc/hosts'
        if nameservers is not None:
            self.ask(*nameservers)
            mounts += ' && mount --bind "$1" /etc/resolv.conf'
        self.prefix = (
            "unshare",
            "--mount",
            "--propagation",
            "private",
            "sh",
            "-c",
            f'{mounts} && shift && exec "$@"',
            str(self.file),
            str(self.resolv_conf),
        )

    # In place: each mount is of this very file.

    def write(self, *lines):
        text = "".join(f"{line}\n" for line in ("127.0.0.1 localhost", *lines))
        self.file.write_text(text, encoding="ascii")

    def ask(self, *nameservers):
        text = "".join(f"nameserver {server}\n" for server in nameservers)
        self.resolv_conf.write_text(text, encoding="ascii")
