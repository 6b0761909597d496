"""The pytest plugin, in runs of pytest within the test: its fixtures, its marker, and what a failure shows."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

import flatfee.testing  # what nested runs import must be there before them: pytester drops it again  # noqa: F401

pytestmark = pytest.mark.slow
"""What it starts takes its time; ``make check`` has that."""

SOURCES = str(Path(__file__).parents[2] / "src")
SECTION = "flatfee: what the gateway was asked"
PLUGIN = ("-p", "no:flatfee", "-p", "flatfee_pytest", "-p", "no:cacheprovider")


@pytest.fixture
def nested(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> pytest.Pytester:
    """A folder to run pytest in, with no plugin that happens to be installed here."""
    monkeypatch.setenv("PYTHONPATH", SOURCES)
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    monkeypatch.delenv("PYTEST_ADDOPTS", raising=False)
    return pytester


def run(nested: pytest.Pytester, *arguments: str) -> pytest.RunResult:
    return nested.runpytest_inprocess(*PLUGIN, "--strict-markers", "-W", "error", *arguments)


def test_gateway_is_a_fresh_one_for_each_test(nested: pytest.Pytester) -> None:
    nested.makepyfile("""
        seen = []

        def test_one(flatfee_gateway):
            seen.append(flatfee_gateway)

        def test_other(flatfee_gateway):
            assert flatfee_gateway.api_key != seen[0].api_key
            assert flatfee_gateway.base_url.startswith("http://127.0.0.1:")
    """)
    run(nested).assert_outcomes(passed=2)


def test_nearest_marker_wins_key_by_key(nested: pytest.Pytester) -> None:
    nested.makepyfile("""
        import pytest

        pytestmark = pytest.mark.flatfee(fair_use=1, concurrent_workflows=1, seed=1)

        @pytest.mark.flatfee(fair_use=2, concurrent_workflows=2)
        class TestThose:
            @pytest.mark.flatfee(fair_use=3)
            def test_it(self, flatfee_gateway):
                options = flatfee_gateway.options
                assert (options.fair_use, options.concurrent_workflows, options.seed) == (3, 2, 1)

        def test_default(flatfee_gateway):
            assert (flatfee_gateway.options.fair_use, flatfee_gateway.options.strict) == (1, False)
    """)
    run(nested).assert_outcomes(passed=2)


def test_unknown_option_is_refused_with_the_nearest_one(nested: pytest.Pytester) -> None:
    nested.makepyfile("""
        import pytest

        @pytest.mark.flatfee(fairuse=1)
        def test_near(flatfee_gateway): ...

        @pytest.mark.flatfee(fair_use=-1)
        def test_impossible(flatfee_gateway): ...

        @pytest.mark.flatfee(1000)
        def test_no_keyword(flatfee_gateway): ...
    """)
    result = run(nested)
    result.assert_outcomes(errors=3)
    result.stdout.fnmatch_lines([
        "A flatfee gateway cannot be set up so: There is no option 'fairuse'; use fair_use.",
        "A flatfee gateway cannot be set up so: *fair_use*",
        "@pytest.mark.flatfee takes keywords only, as in fair_use=1000; this one has 1000.",
    ])  # fmt: skip
    assert "flatfee_pytest.py" not in result.stdout.str()


def test_folder_file_and_port_that_cannot_be_had_are_told_without_the_plugins_lines(nested: pytest.Pytester) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        nested.makepyfile(f"""
            import pytest

            @pytest.mark.flatfee(port={port})
            def test_port(flatfee_gateway): ...

            @pytest.mark.flatfee(replay="tapes")
            def test_tapes(flatfee_gateway): ...

            @pytest.mark.flatfee(config="flatfee.toml")
            def test_config(flatfee_gateway): ...
        """)
        result = run(nested)
    result.assert_outcomes(errors=3)
    result.stdout.fnmatch_lines([
        f"A flatfee gateway cannot be set up so: cannot listen on 127.0.0.1:{port}",
        "A flatfee gateway cannot be set up so: There is no folder tapes. Record tapes into it first*",
        "A flatfee gateway cannot be set up so: flatfee.toml: cannot be read*",
    ])  # fmt: skip
    assert "flatfee_pytest.py" not in result.stdout.str()


def test_what_is_not_installed_is_named_with_the_cure(nested: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who installed flatfee for its client has no server, and the plugin all the same."""
    monkeypatch.setitem(sys.modules, "flatfee.testing", None)
    nested.makepyfile("def test_it(flatfee_gateway): ...")
    result = run(nested)
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["A flatfee gateway needs *. Install it: pip install 'flatfee?testing?'"])


def test_options_can_be_had_when_the_test_runs(nested: pytest.Pytester) -> None:
    nested.makepyfile("""
        import pytest

        @pytest.fixture(params=[10, 20])
        def flatfee_options(request, flatfee_options):
            return {"fair_use": request.param, "seed": 7, **flatfee_options}

        @pytest.mark.flatfee(seed=8)
        def test_it(request, flatfee_gateway):
            assert flatfee_gateway.options.fair_use in (10, 20)
            assert flatfee_gateway.options.seed == 8
    """)
    run(nested).assert_outcomes(passed=2)


def test_client_and_environment_lead_to_the_gateway_of_the_test(nested: pytest.Pytester) -> None:
    nested.makepyfile("""
        import os
        import flatfee

        HELLO = [{"role": "user", "content": "Hello"}]

        def test_client(flatfee_client, flatfee_gateway):
            assert str(flatfee_client.base_url).rstrip("/") == flatfee_gateway.base_url
            assert flatfee_client.chat.completions.create(model="auto", messages=HELLO).receipt.route == "premium-a"

        def test_environment(flatfee_env, flatfee_gateway):
            assert os.environ["OPENAI_BASE_URL"] == flatfee_gateway.base_url
            assert os.environ["OPENAI_API_KEY"] == flatfee_gateway.api_key
            with flatfee.Client() as client:
                assert client.chat.completions.create(model="auto", messages=HELLO).receipt.lane == "premium"

        def test_after():
            assert "OPENAI_BASE_URL" not in os.environ
    """)
    run(nested).assert_outcomes(passed=3)


def test_async_client_works_on_any_event_loop_and_leaves_nothing_open(nested: pytest.Pytester) -> None:
    nested.makepyfile("""
        import asyncio
        import unittest

        import pytest
        import trio

        HELLO = [{"role": "user", "content": "Hello"}]

        async def ask(client):
            answer = await client.chat.completions.create(model="auto", messages=HELLO)
            stream = await client.chat.completions.create(model="auto", messages=HELLO, stream=True)
            assert [chunk async for chunk in stream]
            return answer.receipt.route

        @pytest.mark.anyio
        @pytest.mark.parametrize("anyio_backend", ["asyncio", "trio"])
        async def test_anyio(flatfee_async_client):
            assert await ask(flatfee_async_client) == "premium-a"

        def test_several_loops(flatfee_async_client):
            for run in (asyncio.run, trio.run):
                assert run(ask, flatfee_async_client) if run is trio.run else run(ask(flatfee_async_client))

        class TestCase(unittest.IsolatedAsyncioTestCase):
            @pytest.fixture(autouse=True)
            def client_of_the_test(self, flatfee_async_client):
                self.client = flatfee_async_client

            async def test_unittest(self):
                self.assertEqual(await ask(self.client), "premium-a")

        loop = asyncio.new_event_loop()

        def test_loop_that_outlives_the_gateway(flatfee_async_client):
            assert loop.run_until_complete(ask(flatfee_async_client)) == "premium-a"

        def test_nothing_is_left():
            import gc

            loop.close()
            gc.collect()
    """)
    run(nested, "-p", "anyio.pytest_plugin").assert_outcomes(passed=6)


def test_several_gateways_of_a_test_are_apart_and_end_with_it(nested: pytest.Pytester) -> None:
    nested.makepyfile("""
        import socket
        import pytest

        ports = []

        def test_two(flatfee_gateways):
            one, other = flatfee_gateways(fair_use=10), flatfee_gateways(fair_use=20)
            assert (one.options.fair_use, other.options.fair_use) == (10, 20)
            ports.extend((one.port, other.port))
            assert len(set(ports)) == 2

        def test_after():
            for port in ports:
                with pytest.raises(OSError):
                    socket.create_connection(("127.0.0.1", port), timeout=5)
    """)
    run(nested).assert_outcomes(passed=2)


def test_gateway_of_a_whole_module_is_made_from_the_context_manager(nested: pytest.Pytester) -> None:
    nested.makepyfile("""
        import pytest
        from flatfee.testing import running_gateway

        HELLO = [{"role": "user", "content": "Hello"}]

        @pytest.fixture(scope="module")
        def everybodys():
            with running_gateway() as gateway:
                yield gateway

        @pytest.fixture
        def gateway(everybodys):
            yield everybodys
            everybodys.reset()

        @pytest.mark.parametrize("number", [1, 2])
        def test_it(gateway, number):
            with gateway.client() as client:
                client.chat.completions.create(model="auto", messages=HELLO)
            assert len(gateway.journal.completions) == 1
    """)
    run(nested).assert_outcomes(passed=2)


def test_thread_that_waits_for_an_answer_ends_with_the_test(nested: pytest.Pytester) -> None:
    nested.makepyfile("""
        import socket
        import threading

        threads = []
        heard = threading.Event()

        def ask_and_wait(port, key):
            lines = ["POST /v1/chat/completions HTTP/1.1", "host: x", f"authorization: Bearer {key}",
                     "content-length: 9", "expect: 100-continue", "", ""]
            with socket.create_connection(("127.0.0.1", port)) as connection:
                connection.sendall("\\r\\n".join(lines).encode())
                connection.recv(100)
                heard.set()
                try:
                    connection.recv(1)
                except ConnectionResetError:
                    pass

        def test_hangs(flatfee_gateway):
            thread = threading.Thread(target=ask_and_wait, args=[flatfee_gateway.port, flatfee_gateway.api_key])
            thread.start()
            threads.append(thread)
            assert heard.wait(30)
            assert thread.is_alive()

        def test_after():
            threads[0].join(30)
            assert not threads[0].is_alive()
    """)
    run(nested).assert_outcomes(passed=2)


def test_failure_shows_what_each_gateway_was_asked(nested: pytest.Pytester) -> None:
    nested.makepyfile("""
        HELLO = [{"role": "user", "content": "Hello"}]

        def test_fails(flatfee_client, flatfee_gateways):
            flatfee_gateways()
            flatfee_client.chat.completions.create(model="auto", messages=HELLO)
            assert False

        def test_passes(flatfee_client):
            flatfee_client.chat.completions.create(model="auto", messages=HELLO)
    """)
    result = run(nested)
    result.assert_outcomes(passed=1, failed=1)
    shown = result.stdout.str()
    assert shown.count(f" {SECTION} ") == 2
    result.stdout.fnmatch_lines([f"* {SECTION} *", "*auto*premium-a*"])
    assert "ff_proj_" not in shown


def test_gateway_is_told_of_when_the_test_fails_late_or_early(nested: pytest.Pytester) -> None:
    nested.makepyfile("""
        import pytest

        @pytest.fixture
        def breaks(flatfee_gateway):
            raise LookupError("early")

        @pytest.fixture
        def breaks_late(flatfee_gateway):
            yield
            raise LookupError("late")

        def test_early(breaks): ...
        def test_late(breaks_late): ...
    """)
    result = run(nested)
    result.assert_outcomes(passed=1, errors=2)
    assert result.stdout.str().count(f" {SECTION} ") == 2


def test_journal_that_cannot_be_read_does_not_end_the_run(nested: pytest.Pytester) -> None:
    nested.makepyfile("""
        class Stuck:
            def assert_all_matched(self): ...

            @property
            def journal(self):
                raise TimeoutError("the gateway's thread does not answer")

        def test_fails(request, flatfee_gateway):
            import flatfee_pytest

            request.node.stash[flatfee_pytest._GATEWAYS].append(Stuck())
            assert False

        def test_passes(flatfee_gateway): ...
    """)
    result = run(nested)
    result.assert_outcomes(passed=1, failed=1)
    result.stdout.fnmatch_lines(["The journal cannot be read: TimeoutError: the gateway's thread does not answer"])


def test_request_that_a_strict_script_has_no_rule_for_fails_the_test_whatever_the_client_made_of_it(
    nested: pytest.Pytester,
) -> None:
    nested.makepyfile("""
        import contextlib
        import flatfee
        import pytest

        @pytest.mark.flatfee(strict=True)
        def test_swallows(flatfee_gateway, flatfee_client):
            flatfee_gateway.script("It is sunny.", user="How is the weather?")
            with contextlib.suppress(flatfee.BadRequestError):
                flatfee_client.chat.completions.create(model="auto", messages=[{"role": "user", "content": "Hello"}])
    """)
    result = run(nested)
    result.assert_outcomes(passed=1, errors=1)
    result.stdout.fnmatch_lines(["No rule of the script matches completion 1*", "*Hello*", f"* {SECTION} *"])
    assert "flatfee_pytest.py" not in result.stdout.str()


def test_request_without_a_rule_fails_a_test_that_has_failed_by_it_only_once(nested: pytest.Pytester) -> None:
    nested.makepyfile("""
        import contextlib
        import flatfee
        import pytest

        HELLO = [{"role": "user", "content": "Hello"}]

        def ask(client):
            return client.chat.completions.create(model="auto", messages=HELLO)

        @pytest.mark.flatfee(strict=True)
        def test_raises(flatfee_client):
            ask(flatfee_client)

        @pytest.mark.flatfee(strict=True)
        def test_swallows_and_fails(flatfee_client):
            with contextlib.suppress(flatfee.BadRequestError):
                ask(flatfee_client)
            assert "no answer" == ""

        def test_function_of_the_script_fails(flatfee_gateway, flatfee_client):
            flatfee_gateway.script(lambda asked: 1 / 0)
            ask(flatfee_client)
    """)
    result = run(nested)
    result.assert_outcomes(failed=3)
    result.stdout.fnmatch_lines([
        "E *No rule of the script matches completion 1*",
        f"* {SECTION} *", "#*",  # the report has it already
        "E * assert 'no answer' == ''",
        f"* {SECTION} *", "No rule of the script matches completion 1*", "*Hello*", "#*",
        f"* {SECTION} *", "*raised ZeroDivisionError*", "*test_request_*.py*, line *, in <lambda>", "#*",
    ])  # fmt: skip


def test_marker_and_fixtures_are_explained(nested: pytest.Pytester) -> None:
    run(nested, "--markers").stdout.fnmatch_lines(["@pytest.mark.flatfee(**options): sets up the gateway*"])
    shown = run(nested, "--fixtures").stdout
    shown.fnmatch_lines(["flatfee_gateway -- *flatfee_pytest.py:*", "    A fresh gateway on loopback*"])
    assert "no docstring available" not in shown.str().partition("from flatfee_pytest")[2]


def test_own_suite_runs_without_the_plugin(pytestconfig: pytest.Config) -> None:
    """So it is imported, and measured, as other modules are."""
    assert not pytestconfig.pluginmanager.hasplugin("flatfee")
    assert not pytestconfig.pluginmanager.hasplugin("flatfee_pytest")


@pytest.mark.processes
@pytest.mark.parametrize("mode", ["prepend", "importlib"])
def test_parallel_workers_have_gateways_of_their_own(nested: pytest.Pytester, mode: str) -> None:
    """Each test waits until the other's gateway has answered: they run at once, in two processes."""
    nested.makepyfile("""
        import os
        import pathlib
        import time

        import flatfee
        import pytest

        HELLO = [{"role": "user", "content": "Hello"}]
        HERE = pathlib.Path(__file__).parent

        @pytest.mark.flatfee(meter="requests", fair_use=2)
        @pytest.mark.parametrize(("own", "other"), [("a", "b"), ("b", "a")])
        def test_it(own, other, flatfee_gateway, flatfee_client):
            flatfee_client.chat.completions.create(model="premium", messages=HELLO)
            (HERE / f"{own}.new").write_text(f"{os.getpid()} {flatfee_gateway.port} {flatfee_gateway.api_key}")
            (HERE / f"{own}.new").rename(HERE / own)
            until = time.monotonic() + 60
            while not (HERE / other).exists():
                assert time.monotonic() < until, "the other test does not run"
                time.sleep(0.01)
            process, port, key = (HERE / other).read_text().split()
            assert int(process) != os.getpid()
            assert int(port) != flatfee_gateway.port
            assert key != flatfee_gateway.api_key
            assert flatfee_gateway.account.usage.fair_use.used == 1
    """)
    result = nested.runpytest_subprocess(
        *PLUGIN, "-p", "xdist.plugin", "-n", "2", "-W", "error", f"--import-mode={mode}", "--strict-markers"
    )
    result.assert_outcomes(passed=2)


def test_plugin_that_is_not_used_imports_nothing(tmp_path: Path) -> None:
    """It is loaded for everybody who has flatfee installed."""
    (tmp_path / "test_it.py").write_text(
        "import sys\n\ndef test_it():\n"
        "    heavy = {'flatfee', 'httpx', 'pydantic', 'asyncio'}\n"
        "    assert 'flatfee_pytest' in sys.modules\n"
        "    assert sorted(heavy & sys.modules.keys()) == []\n",
        "utf-8",
    )
    line = [sys.executable, "-m", "pytest", "-q", *PLUGIN, "-c", os.devnull, "--rootdir", str(tmp_path), str(tmp_path)]
    environ = {"PYTHONPATH": SOURCES, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    done = subprocess.run(line, cwd=tmp_path, env=environ, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
