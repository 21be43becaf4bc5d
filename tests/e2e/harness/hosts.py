"""Host names that only the program under test knows."""


class Hosts:
    """A hosts file and the words before a program that make it /etc/hosts."""

    def __init__(self, directory, *lines):
        self.file = directory / "hosts"
        self.write(*lines)
        self.prefix = (
            "unshare",
            "--mount",
            "--propagation",
            "private",
            "sh",
            "-c",
            'mount --bind "$0" /etc/hosts && exec "$@"',
            str(self.file),
        )

    def write(self, *lines):
        # In place: the mount is of this very file.
        text = "".join(f"{line}\n" for line in ("127.0.0.1 localhost", *lines))
        self.file.write_text(text, encoding="ascii")
