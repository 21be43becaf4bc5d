"""The status page in a headless browser: live figures, the line to add, a search; wide and narrow,
light and dark.

    client                        proxy                             service
    10.1.0.2  ────────  10.1.0.1:5353 │ 10.0.0.1  ────────  10.0.0.254:53 the upstream, 10.0.0.253:53 an alias, 10.0.0.252:53 not listed
                          127.0.0.1:9090, the browser

SCREENSHOTS=DIRECTORY keeps the pictures.
"""

import os
import re
import signal

import pytest

from harness.admin import HTTP_ENDPOINT
from harness.browser import Browser, is_here
from harness.program import configuration, table
from harness.service import from_each
from harness.topology import IPV4

_SOURCES = [IPV4.service(254), IPV4.service(253)]
_UNLISTED = IPV4.service(252)

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not is_here(), reason="chromium and chromium-driver are not installed"),
]


def _load(crowd, rounds):
    for turn in range(rounds):
        crowd.ask_all(
            IPV4.listener(),
            lambda client, turn=turn: b"%d in %d " % (client, turn) + b"x" * (17 * client),
            replies=2,
        )


def _two_proxies(engine, admin):
    return configuration(
        table(
            name="wireguard",
            listen=IPV4.listener(),
            upstream=_SOURCES[0],
            reply_aliases=[_SOURCES[1]],
            unlisted_replies="all",
            sessions_max=500,
        ),
        table(
            name="dns",
            listen=IPV4.listener(5354),
            upstream=_SOURCES[0],
            reply_aliases=["10.0.0.0/24:*"],
        ),
        engine=engine,
        head=admin.section(listen=True),
    )


@pytest.fixture(scope="module")
def browser(network):
    """One for all tests: its start is the slowest part, and not under a test's time limit."""
    made = Browser(network.proxy)
    yield made
    made.close()


@pytest.fixture
def page(engine, admin, browser, start_proxy, open_service, open_crowd):
    open_service([*_SOURCES, _UNLISTED], from_each([*_SOURCES, _UNLISTED]))
    start_proxy(_two_proxies(engine, admin))
    crowd = open_crowd(60)
    _load(crowd, 2)
    browser.size(1280, 900)
    browser.complaints()  # of tests before
    browser.open(f"http://{HTTP_ENDPOINT}/")
    browser.wait("return document.querySelectorAll('#table tr').length === 20", "twenty sessions")
    return browser, crowd


def test_the_page_shows_what_goes_on(engine, page, tmp_path):
    browser, crowd = page
    assert browser.text("#ready") == "ready" and engine in browser.text("#facts")
    for _ in range(6):
        _load(crowd, 4)
        browser.run("return 1")
    browser.wait(
        "return parseFloat(document.querySelector('#requests').textContent) > 0",
        "a rate of requests",
    )
    assert browser.wait(
        "return document.querySelector('#request-line').getAttribute('d').length > 20",
        "a line in the chart",
    )
    assert browser.text("#sessions") == "60" and browser.text("#found") == "20 of 60"
    assert [
        browser.run("return document.querySelectorAll('.proxy h3')[arguments[0]].textContent", i)
        for i in (0, 1)
    ] == ["wireguard", "dns"]
    assert "unlisted_source" in browser.text("#reasons")

    browser.wait(
        "return document.querySelector('#problems-title').textContent === 'What is wrong now'",
        "the problem of unlisted sources",
    )
    assert "not listed" in browser.text("#problems-panel")
    # The source that is not listed, and its line; a click copies it.
    assert _UNLISTED in browser.text("#unlisted-panel")
    line = browser.run("return document.querySelector('#unlisted .line code').textContent")
    assert line == f'reply_aliases = ["{_SOURCES[1]}", "{_UNLISTED}"]'
    browser.click("#unlisted button")
    browser.wait(
        "return document.querySelector('#unlisted button').textContent === 'Copied'",
        "the button says so",
    )

    browser.click("#more")
    browser.wait("return document.querySelectorAll('#table tr').length === 60", "all sessions")
    assert browser.text("#found") == "60 sessions" and not browser.run(
        "return document.querySelector('#more').offsetParent"
    )

    # A search leaves one session, nonsense leaves a word about it.
    port = crowd.sockets[7].getsockname()[1]
    browser.type("#client", f"10.1.0.2:{port}")
    browser.wait("return document.querySelectorAll('#table tr').length === 1", "one session")
    assert f"10.1.0.2:{port}" in browser.text("#table") and browser.text("#found") == "1 session"
    browser.type("#client", "x")
    browser.wait(
        "return document.querySelector('#client').classList.contains('wrong')",
        "the field says that it is no address",
    )
    browser.run(
        "document.querySelector('#client').value = ''; "
        "document.querySelector('#client').dispatchEvent(new Event('input'))"
    )
    browser.wait("return document.querySelectorAll('#table tr').length === 60", "all again")

    directory = os.environ.get("SCREENSHOTS", tmp_path)
    for name, width, height, dark in (
        ("wide", 1280, 1400, False),
        ("wide-dark", 1280, 1400, True),
        ("narrow", 390, 844, False),
        ("narrow-dark", 390, 844, True),
    ):
        browser.size(width, height)
        browser.dark(dark)
        browser.run("window.scrollTo(0, 0)")
        _load(crowd, 4)
        assert browser.run(
            "return document.documentElement.scrollWidth <= window.innerWidth"
        ), f"{name}: it must not scroll sideways"
        picture = os.path.join(directory, f"status-page-{name}.png")
        browser.screenshot(picture)
        assert os.path.getsize(picture) > 20000
    # The console tells of the request that was nonsense, as often as it was made, and of nothing
    # else.
    complaints = browser.complaints()
    assert complaints and all(
        "/v1/sessions?" in complaint and "400" in complaint for complaint in complaints
    ), complaints


def test_the_page_is_one_document_that_allows_nothing_else(engine, admin, start_proxy):
    start_proxy(_two_proxies(engine, admin))
    status, headers, body = admin.http("/", tcp=True)
    assert status == 200 and headers["Content-Type"] == "text/html; charset=utf-8"
    policy = headers["Content-Security-Policy"]
    assert (
        policy.startswith("default-src 'none'; ")
        and "unsafe" not in policy
        and "http" not in policy
    )
    text = body.decode()
    assert (
        not re.search(r"""(src|href)\s*=\s*["'](?!data:,|/metrics)""", text)
        and "@import" not in text
        and "url(" not in text
    )


def test_the_page_tells_of_a_worker_that_has_followed_another_one(
    engine, admin, browser, start_proxy
):
    proxy = start_proxy(_two_proxies(engine, admin))
    browser.open(f"http://{HTTP_ENDPOINT}/")
    browser.wait(
        "return document.querySelector('#ready').textContent === 'ready'", "the first answer"
    )
    assert browser.run("return document.querySelector('#worker').hidden")
    os.kill(proxy.worker_pid, signal.SIGKILL)
    browser.wait("return !document.querySelector('#worker').hidden", "a line about it")
    told = "worker: replaced after a crash (signal 9 (Killed)), 0 sessions adopted, pause "
    assert browser.text("#worker").startswith(told)


def test_the_page_says_when_it_gets_no_answer(engine, admin, browser, start_proxy):
    proxy = start_proxy(_two_proxies(engine, admin))
    browser.open(f"http://{HTTP_ENDPOINT}/")
    browser.wait(
        "return document.querySelector('#ready').textContent === 'ready'", "the first answer"
    )
    assert browser.run("return document.querySelector('#trouble').hidden")
    assert browser.text("#problems-panel").strip() == "No problems in the last minute"
    proxy.stop()
    browser.wait("return !document.querySelector('#trouble').hidden", "a word about it")
    assert "old" in browser.text("#trouble")
