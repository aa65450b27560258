"""What a chat template costs is bounded, whatever it does: time, memory, and words."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from types import SimpleNamespace

import psutil
import pytest

from llm_course.errors import CheckpointError
from llm_course.text import Tokenizer, sandbox
from llm_course.text.chat_template import render_chat
from tests.notebook_tools import clean_env

pytestmark = pytest.mark.slow

LONG_RANGE = "{% for a in range(99999) %}"
NS = "{% set n = namespace(x='ab') %}"
TOO_MUCH = {
    "range": "{% for i in range(10 ** 9) %}{% endfor %}",
    "nested loops": LONG_RANGE * 4 + "{% endfor %}" * 4,
    "loops that print": LONG_RANGE + "x" * 1000 + "{% endfor %}",
    "generators": "{% for x in range(9999) | map('string') %}" * 3 + "{% endfor %}" * 3,
    "recursion": "{% macro f(n) %}{{ f(n - 1) if n else 'x' }}"
    "{{ f(n - 1) if n else 'x' }}{% endmacro %}{{ f(60) }}",
    "endless recursion": "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}",
    "recursive loop": "{% for x in [1, 2] recursive %}{{ loop([1, 2]) }}{% endfor %}",
    "times": "{{ 'a' * 10 ** 10 }}",
    "list times": "{{ [1] * 10000000000 }}",
    "power": "{{ 9 ** 9999999 ** 9 }}",
    "square": "{% set n = namespace(x=99) %}" + "{% set n.x = n.x * n.x %}" * 60,
    "percent": "{{ '%1000000000d' % 1 }}",
    "format": "{{ '{:>1000000000}'.format(1) }}",
    "justified": "{{ 'a'.ljust(1000000000) }}",
    "tabs": "{{ '\\t'.expandtabs(1000000000) }}",
    "indent": "{{ [1] | tojson(indent=1000000000) }}",
    "doubling": NS + "{% set n.x = n.x + n.x %}" * 60,
    "printing": "{% set x = 'ab' %}"
    + "".join(
        f"{{% set y{i} %}}{{{{ x }}}}{{{{ x }}}}{{% endset %}}{{% set x = y{i} %}}"
        for i in range(60)
    ),
    "joining": NS + "{% set n.x = [n.x, n.x] | join(n.x) %}" * 60,
    "replacing": NS + "{% set n.x = n.x | replace('a', n.x ~ n.x) %}" * 60,
    "deep lists": NS + "{% set n.x = [n.x, n.x] %}" * 60 + "{{ n.x }}",
    "deep tuples": NS + "{% set n.x = (n.x, n.x) %}" * 60 + "{{ n.x == n.x | list }}"
    "{{ n.x | string }}",
    "a long template": "x" * 300_000,
    # four ways round counting: each costs what nobody would have counted
    "a filter within a filter": NS
    + "{% for i in range(40) %}{% set n.x = [n.x, n.x] | map('string') | join %}"
    "{% endfor %}",
    "namespaces in namespaces": "{% set n = namespace(x=namespace()) %}"
    + LONG_RANGE * 2
    + "{% set n.x = namespace(x=n.x, y='a' * 1000) %}"
    + "{% endfor %}" * 2,
    "statements in a loop": LONG_RANGE
    + "{% set a = 1 %}{% set b = a %}" * 500
    + "{% endfor %}",
    "huge integers": "{% set n = namespace(x=3) %}{% for i in range(99) %}"
    "{% set n.x = n.x * n.x %}{% endfor %}",
    "a single huge number": "{% set x = 7 ** 7777777 ** 2 %}",
    "an expression": "{{ (" + "((" * 2000 + "1" + "))" * 2000 + ") }}",
    "a pattern": "{{ 'a' | wordwrap(0) }}{{ ('ab' * 99999) | urlize | length }}"
    + LONG_RANGE
    + "{{ ('a ' * 9999) | title | wordcount }}{% endfor %}",
    "dicts": LONG_RANGE * 2
    + "{% set n = dict(a=dict(b='x' * 9999)) %}{{ n }}"
    + "{% endfor %}" * 2,
}
UNUSABLE = "chat template that came with this tokenizer cannot be used"


def render(template: str, **values: object) -> str:
    return render_chat(template, {"messages": [], **values})


@pytest.fixture
def quick(monkeypatch):
    monkeypatch.setattr(sandbox, "SECONDS", 0.5)
    render("x")  # the process is up: what follows has half a second


@pytest.mark.parametrize("template", TOO_MUCH.values(), ids=TOO_MUCH.keys())
def test_a_template_cannot_do_too_much(quick, template):
    with pytest.raises(CheckpointError, match=UNUSABLE):
        render(template)
    assert render("{{ 6 * 7 }}") == "42"  # the next chat is rendered


GREEDY = """
import resource
from llm_course.text import sandbox
sandbox.render("x", {})
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
for template in (
    "{{ 'a' * 10 ** 10 }}",
    "{% set n = namespace(x='ab') %}" + "{% set n.x = n.x ~ n.x %}" * 60 + "{{ n.x }}",
    "{% set n = namespace(x=[]) %}{% for a in range(99999) %}"
    "{% set n.x = [n.x, 'a' * (100000 + a)] %}{% endfor %}",
    "{{ 'x' * 100000000 }}",
    "{{ raise_exception('x' * 100000000) }}",
    "{{ nothing['x' * 100000000] + 1 }}",
):
    try:
        sandbox.render(template, {})
        raise SystemExit("rendered")
    except (sandbox.TemplateFailure, sandbox.TemplateRefusal) as error:
        assert len(str(error)) < 1000
sandbox._workers.end()
own = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
print(own * 1024, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="counts memory as Linux does")
def test_memory_is_bounded_here_and_in_the_other_process():
    done = subprocess.run(
        [sys.executable, "-c", GREEDY],
        env=clean_env(),
        capture_output=True,
        text=True,
        encoding="utf-8",
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    own, others = map(int, done.stdout.split())
    assert own < 30_000_000
    assert others < sandbox.MEMORY + 50_000_000


def test_memory_is_watched_where_the_system_does_not_bound_it(monkeypatch):
    """As on Windows, where there is no `resource`."""
    sandbox._workers.end()
    monkeypatch.setattr(sandbox, "MEMORY", 10**12)  # what the worker asks for
    render("x")
    monkeypatch.setattr(sandbox, "MEMORY", 200_000_000)  # what is watched
    with pytest.raises(CheckpointError, match="too much memory"):
        render(
            "{% set n = namespace(x=[]) %}"
            + LONG_RANGE
            + "{% set n.x = [n.x, 'a' * (100000 + a)] %}{% endfor %}"
        )
    sandbox._workers.end()


def test_a_reason_is_bounded_and_harmless():
    with pytest.raises(ValueError, match="refused these messages") as caught:
        render(
            r"{{ raise_exception('\x1b]0;title\x07\x1b[2J\u202e' ~ 'no ' * 400000) }}"
        )
    message = str(caught.value)
    assert len(message) < 1000
    assert message.isprintable()
    assert r"\x1b]0;title\x07" in message
    with pytest.raises(CheckpointError) as caught:
        render(r"{{ nothing['\x1b[2J' * 1000] + 1 }}")
    assert len(str(caught.value)) < 1000
    assert str(caught.value).isprintable()


@pytest.mark.parametrize(
    "code",
    [
        "open('/etc/passwd').read()",
        "__import__('os').listdir('/')",
        "__import__('os').system('true')",
        "__import__('os').remove('/nothing')",
        "__import__('subprocess').run(['true'])",
        "__import__('socket').socket()",
        "__import__('ctypes').CDLL(None)",
    ],
)
def test_even_python_in_that_process_cannot_reach_out(code):
    """Should a template ever break out of the sandbox."""
    worker = sandbox._WORKER
    program = (
        f"import sys, runpy; names = runpy.run_path({str(worker)!r});"
        " names['forbid_the_world']()\n"
        f"try:\n    {code}\nexcept names['SecurityError']: sys.exit(7)"
    )
    place = os.path.dirname(os.path.dirname(__import__("jinja2").__file__))
    done = subprocess.run([sys.executable, "-S", "-c", program, place], timeout=60)
    assert done.returncode == 7


def test_the_process_ends_with_the_program_and_is_no_ones_orphan():
    program = (
        "from llm_course.text import sandbox; sandbox.render('x', {});"
        " print(sandbox._workers._worker.process.pid, flush=True);"
        " import os; os._exit(0) if QUICK else None"
    )
    for quick in (True, False):
        done = subprocess.run(
            [sys.executable, "-c", program.replace("QUICK", str(quick))],
            env=clean_env(),
            capture_output=True,
            text=True,
            encoding="utf-8",
            timeout=60,
        )
        assert (done.returncode, done.stderr) == (0, "")
        pid = int(done.stdout)
        psutil.wait_procs([psutil.Process(pid)] if psutil.pid_exists(pid) else [], 10)
        assert not psutil.pid_exists(pid)


def test_a_process_that_was_killed_is_replaced():
    render("x")
    psutil.Process(sandbox._workers._worker.process.pid).kill()
    with pytest.raises(CheckpointError, match="its process died"):
        render("{{ 1 }}")
    assert render("{{ 1 }}") == "1"


def test_an_interrupt_leaves_no_answer_behind(monkeypatch):
    def interrupted(*_args: object, **_kwargs: object) -> None:
        raise KeyboardInterrupt

    render("x")
    worker = sandbox._workers._worker
    monkeypatch.setattr(worker, "answers", SimpleNamespace(get=interrupted, put=len))
    with pytest.raises(KeyboardInterrupt):
        render("{{ 'old' }}")
    assert render("{{ 'new' }}") == "new"


def test_threads_get_their_own_answers():
    found: dict[int, str] = {}

    def work(n: int) -> None:
        for _ in range(20):
            found[n] = render("{{ x }}", x=f"{n}" * 1000)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == {n: f"{n}" * 1000 for n in range(8)}


@pytest.mark.parametrize(
    "values",
    [{"tools": [print]}, {"tools": [b"x"]}, {"x": {1, 2}}],
    ids=["a function", "bytes", "a set"],
)
def test_what_is_no_json_is_refused(values):
    with pytest.raises(ValueError, match="text, numbers, lists and dicts only"):
        render("x", **values)


def test_values_go_there_and_back_unchanged(smollm2):
    text = 'a\n\r\u2028\x00\ud800 \U0001f30d \\ " é'
    tokenizer = Tokenizer(
        smollm2[1]._backend, chat_template="{{ messages[0].content }}"
    )
    chat = [{"role": "user", "content": text}]
    assert tokenizer.apply_chat_template(chat) == text
