"""A proxy whose file is rewritten while it runs, and which is told so."""

import signal

from harness.program import configuration


class Reloading:
    """A proxy whose file is rewritten and which is told so."""

    def __init__(self, start_proxy, engine, *tables, head="", shards=2):
        self._runtime = {"engine": engine, "shards": shards}
        self._head = head
        self.proxy = start_proxy(configuration(*tables, head=head, **self._runtime))
        self.reloads = 0
        self.failures = 0

    def write(self, text):
        self.proxy.configuration_file.write_text(text, encoding="utf-8")

    def ask(self, *tables, head=None):
        """Writes and signals, without waiting."""
        head = self._head if head is None else head
        self.write(configuration(*tables, head=head, **self._runtime))
        self.proxy.signal(signal.SIGHUP)
        self.reloads += 1

    def ask_with_broken(self, text):
        self.write(text)
        self.proxy.signal(signal.SIGHUP)
        self.failures += 1

    def settle(self):
        """The answers to everything that was asked; what is asked before the last answer is
        answered with it."""
        if self.failures:
            self.proxy.wait_event("not_reloaded", failures=str(self.failures))
        if self.reloads:
            return self.proxy.wait_event("reloaded", reloads=str(self.reloads))
        return None

    def reload(self, *tables, head=None):
        self.ask(*tables, head=head)
        return self.settle()

    def reload_or_refusal(self, *tables):
        """Whether it was "reloaded" or "not_reloaded"."""
        self.ask(*tables)

        def answer():
            if self.proxy.all_events("reloaded", reloads=str(self.reloads)):
                return "reloaded"
            if self.proxy.all_events("not_reloaded", failures=str(self.failures + 1)):
                return "not_reloaded"
            return None

        answered = self.proxy.wait_until(answer, what="an answer to the reload")
        if answered == "not_reloaded":
            self.reloads -= 1
            self.failures += 1
        return answered

    def break_file(self, text):
        self.ask_with_broken(text)
        self.settle()
