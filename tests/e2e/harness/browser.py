"""A headless Chromium in a namespace, driven over WebDriver (https://www.w3.org/TR/webdriver2/) by
plain HTTP."""

import base64
import http.client
import json
import shutil
import tempfile
import time

from harness.process import Process

_PORT = 9515
_ELEMENT = "element-6066-11e4-a52e-4f735466cecf"  # the specification's name of an element's id


class Browser:
    def __init__(self, namespace, width=1280, height=900):
        self._namespace = namespace
        self._directory = tempfile.mkdtemp(prefix="browser-")
        self._driver = Process(
            [
                "env",
                f"HOME={self._directory}",
                "DBUS_SESSION_BUS_ADDRESS=disabled:",
                "DBUS_SYSTEM_BUS_ADDRESS=disabled:",
                "chromedriver",
                f"--port={_PORT}",
            ],
            namespace,
        )
        self._session = None
        try:
            self._driver.wait_until(
                lambda: self._driver.catch_up() or "started successfully" in self._driver.text(),
                20,
                "chromedriver",
            )
            arguments = [
                "--headless=new",
                "--no-sandbox",
                "--disable-gpu",
                "--disable-dev-shm-usage",
                "--disable-background-networking",
                "--disable-component-update",
                "--disable-sync",
                "--no-first-run",
                "--no-default-browser-check",
                "--hide-scrollbars",
                f"--user-data-dir={self._directory}/profile",
                f"--window-size={width},{height}",
            ]
            capabilities = {
                "goog:chromeOptions": {"args": arguments},
                "goog:loggingPrefs": {"browser": "ALL"},
            }
            self._session = self._ask(
                "POST", "", {"capabilities": {"alwaysMatch": capabilities}}, session=False
            )["sessionId"]
            self.size(width, height)
        except BaseException:
            self.close()
            raise

    def _ask(self, method, path, body=None, session=True):
        with self._namespace.inside():
            connection = http.client.HTTPConnection("127.0.0.1", _PORT, timeout=120)
            connection.connect()
        prefix = f"/session/{self._session}" if session else "/session"
        connection.request(
            method,
            prefix + path,
            None if body is None else json.dumps(body),
            {"Content-Type": "application/json"},
        )
        answer = json.loads(connection.getresponse().read())
        connection.close()
        if isinstance(answer["value"], dict) and "error" in answer["value"]:
            raise RuntimeError(
                f"{answer['value']['error']}: {answer['value']['message'].splitlines()[0]}"
            )
        return answer["value"]

    def close(self):
        try:
            if self._session:
                self._ask("DELETE", "")
        finally:
            self._session = None
            self._driver.kill()
            shutil.rmtree(self._directory, ignore_errors=True)

    def open(self, url):
        self._ask("POST", "/url", {"url": url})

    def size(self, width, height):
        """Of the page itself, as a device has it: a window is never as narrow as a phone."""
        self._ask(
            "POST",
            "/goog/cdp/execute",
            {
                "cmd": "Emulation.setDeviceMetricsOverride",
                "params": {
                    "width": width,
                    "height": height,
                    "deviceScaleFactor": 1,
                    "mobile": width < 600,
                },
            },
        )

    def dark(self, on=True):
        features = [{"name": "prefers-color-scheme", "value": "dark" if on else "light"}]
        self._ask(
            "POST",
            "/goog/cdp/execute",
            {"cmd": "Emulation.setEmulatedMedia", "params": {"features": features}},
        )

    def run(self, script, *arguments):
        return self._ask("POST", "/execute/sync", {"script": script, "args": list(arguments)})

    def _element(self, selector):
        return self._ask("POST", "/element", {"using": "css selector", "value": selector})[_ELEMENT]

    def click(self, selector):
        self._ask("POST", f"/element/{self._element(selector)}/click", {})

    def type(self, selector, text):
        self._ask("POST", f"/element/{self._element(selector)}/value", {"text": text})

    def text(self, selector):
        return self._ask("GET", f"/element/{self._element(selector)}/text")

    def wait(self, script, what, timeout=30):
        """Until the script returns something true; that is returned."""
        end = time.monotonic() + timeout
        while not (found := self.run(script)):
            assert time.monotonic() < end, f"{what}: not within {timeout} s"
            time.sleep(0.1)
        return found

    def complaints(self):
        """What the browser's console has: errors of scripts, refusals of the
        Content-Security-Policy."""
        return [entry["message"] for entry in self._ask("POST", "/se/log", {"type": "browser"})]

    def screenshot(self, path):
        picture = self._ask(
            "POST",
            "/goog/cdp/execute",
            {"cmd": "Page.captureScreenshot", "params": {"format": "png"}},
        )
        with open(path, "wb") as file:
            file.write(base64.b64decode(picture["data"]))


def is_here():
    return all(shutil.which(program) for program in ("chromium", "chromedriver"))
