"""A proxy whose file is rewritten while it runs, and which is told so."""

import signal

from harness.program import configuration


class Reloading:
    """A proxy whose file is rewritten and which is told so."""

    def __init__(self, start_proxy, engine, *tables, head=""):
        self._engine = engine
        self._head = head
        self.proxy = start_proxy(configuration(*tables, engine=engine, head=head))
        self.reloads = 0
        self.failures = 0

    def write(self, text):
        self.proxy.configuration_file.write_text(text, encoding="utf-8")

    def ask(self, *tables, head=None):
        """Writes and signals, without waiting."""
        self.write(configuration(*tables, engine=self._engine, head=self._head if head is None else head))
        self.proxy.signal(signal.SIGHUP)
        self.reloads += 1

    def ask_with_broken(self, text):
        self.write(text)
        self.proxy.signal(signal.SIGHUP)
        self.failures += 1

    def settle(self):
        """The answers to everything that was asked; what is asked before the last answer is answered with it."""
        if self.failures:
            self.proxy.wait_event("not_reloaded", failures=str(self.failures))
        if self.reloads:
            return self.proxy.wait_event("reloaded", reloads=str(self.reloads))
        return None

    def reload(self, *tables, head=None):
        self.ask(*tables, head=head)
        return self.settle()

    def break_file(self, text):
        self.ask_with_broken(text)
        self.settle()
