"""A DNS server: unbound in a namespace, with a directory of its own and no rights to give up."""

_CONFIGURATION = """
server:
{addresses}
  access-control: 0.0.0.0/0 allow
  access-control: ::/0 allow
  username: ""
  chroot: ""
  directory: "{directory}"
  pidfile: ""
  use-syslog: no
  log-time-ascii: yes
  verbosity: 1
  num-threads: 1
  module-config: "iterator"
{rest}
remote-control:
  control-enable: no
"""


def start_unbound(start_process, namespace, directory, addresses, rest):
    """Runs until the test ends. `rest` are lines of unbound.conf(5), from its server section on."""
    file = directory / "unbound.conf"
    file.write_text(
        _CONFIGURATION.format(
            addresses="\n".join(f"  interface: {address}" for address in addresses),
            directory=directory,
            rest=rest,
        ),
        encoding="ascii",
    )
    daemon = start_process(["unbound", "-d", "-p", "-c", str(file)], namespace)
    wait_for_starts(daemon, 1)
    return daemon


def wait_for_starts(daemon, count):
    """The first one, and one for each SIGHUP."""
    daemon.wait_until(
        lambda: daemon.text().count("start of service") >= count, what="start of service"
    )
