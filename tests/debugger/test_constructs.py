"""Every odd construct of the language, step by step against an independent tracer."""

import pytest

from tests.debugger.comparison import assert_same_as_reference

CONSTRUCTS = {
    "assignments": "a = 1\nb = a + 1\na, b = b, a\na += 5\ndel b\nb = None\n",
    "functions": "def f(x, *args, y=2, **more):\n    z = x + y\n    return z\nr = f(1)\nr = f(1, 2, 3, y=4, k=5)\n",
    "one line bodies": "def f(x): return x + 1\ng = lambda v: v * 2\nclass C: a = 1\nr = f(g(C.a))\n",
    "one line loops": "n = 0\nfor i in range(3): n += i\nwhile n: n -= 1\nr = n\n",
    "comprehensions": "v = [\n    x * 2\n    for x in range(3)\n    if x >= 0\n]\nw = {k: k for k in v}\nu = {x for x in v}\n",
    "comprehension in function": "def f(r):\n    x = 5\n    s = [x for x in r]\n    return s, x\nz = f([1, 2])\n",
    "generators": "def g():\n    for i in range(3):\n        got = yield i\ntotal = 0\nfor x in g():\n    total += x\n",
    "generator expressions": "s = sum(x * x for x in range(4))\nt = max((y for y in [1, 3, 2]), default=0)\n",
    "yield from": "def a():\n    yield 1\n    return 2\ndef b():\n    r = yield from a()\n    yield r\nv = list(b())\n",
    "generator closed": "def g():\n    try:\n        yield 1\n    finally:\n        done.append(1)\ndone = []\nx = g()\nnext(x)\nx.close()\ny = 1\n",
    "generator throw": "def g():\n    try:\n        yield 1\n    except ValueError:\n        yield 2\nx = g()\na = next(x)\nb = x.throw(ValueError)\n",
    "exceptions": "def f(n):\n    if n == 0:\n        raise ValueError('deep')\n    f(n - 1)\ntry:\n    f(3)\nexcept ValueError as e:\n    caught = str(e)\nelse:\n    caught = None\nfinally:\n    end = True\n",
    "finally and return": "def f():\n    try:\n        return 1\n    finally:\n        x = 2\nr = f()\n",
    "reraise": "def f():\n    try:\n        1 / 0\n    except ZeroDivisionError:\n        raise\ntry:\n    f()\nexcept ZeroDivisionError:\n    ok = 1\n",
    "exception in the end": "x = 1\ndef f():\n    return [][x]\nf()\n",
    "exception group": "try:\n    raise ExceptionGroup('g', [ValueError(1), TypeError(2)])\nexcept* ValueError:\n    a = 1\nexcept* TypeError:\n    b = 2\n",
    "context managers": "class M:\n    def __enter__(self):\n        return 5\n    def __exit__(self, *e):\n        return True\nwith M() as m:\n    x = m\n    raise ValueError\ny = 1\n",
    "recursion": "def fib(n):\n    if n < 2:\n        return n\n    return fib(n - 1) + fib(n - 2)\nr = fib(6)\n",
    "match": "def f(v):\n    match v:\n        case 0:\n            r = 'zero'\n        case [a, *rest]:\n            r = a\n        case {'k': k}:\n            r = k\n        case _:\n            r = None\n    return r\nout = [f(0), f([1, 2]), f({'k': 3}), f(9)]\n",
    "walrus": "if (n := 10) > 5:\n    m = n\nwhile (n := n - 4) > 0:\n    m += n\nz = [y for x in [1, 2] if (y := x)]\n",
    "star args": "def f(*a, **k):\n    return a, k\nr = f(*[1, 2], **{'x': 3})\na, *b = [1, 2, 3]\n",
    "decorators": "def twice(f):\n    def inner(x):\n        return f(f(x))\n    return inner\n@twice\ndef add(x):\n    return x + 1\nr = add(1)\n",
    "stacked decorators": "def d(n):\n    def w(f):\n        return f\n    return w\n@d(1)\n@d(\n    2\n)\ndef f():\n    pass\nf()\n",
    "classes": "class A:\n    x = 1\n    y = [x, 2]\n    def m(self):\n        return self.x\nclass B(A):\n    def m(self):\n        return super().m() + 1\nr = B().m()\n",
    "closures": "def counter():\n    n = 0\n    def step():\n        nonlocal n\n        n += 1\n        return n\n    return step\ns = counter()\na = s()\nb = s()\n",
    "globals": "count = 0\ndef f():\n    global count\n    count += 1\nf()\nf()\nr = count\n",
    "multi line calls": "def f(*a):\n    return a\nr = f(\n    1,\n    2,\n    [3,\n     4],\n)\nd = {\n    'a': 1,\n    'b': 2,\n}\n",
    "multi line conditions": "x = 5\nif (\n    x > 1\n    and x < 10\n):\n    y = 1\nelse:\n    y = 2\n",
    "chained ifs": "for v in [1, 2, 3]:\n    if v == 1:\n        k = 'a'\n    elif v == 2:\n        k = 'b'\n    else:\n        k = 'c'\n",
    "loop else": "for i in range(3):\n    if i == 5:\n        break\nelse:\n    e = 1\nwhile True:\n    break\n",
    "semicolons": "a = 1; b = 2\nc = a; d = b\n",
    "strings": "s = ''\nfor c in 'abc':\n    s += c\nt = f'{s!r:>8}'\nu = s[::-1]\n",
    "nested containers": "g = [[0, 0], [0, 0]]\ng[1][0] = 5\nd = {'a': [1]}\nd['a'].append(2)\nh = g\nh[0].append(7)\n",
    "aliases": "a = [1]\nb = a\nb.append(2)\nadd = a.append\nadd(3)\n",
    "mutation in function": "def put(x, v):\n    x.append(v)\nitems = []\nput(items, 1)\nput(items, 2)\nr = sorted(items, key=lambda v: -v)\n",
    "sets and dicts": "s = set()\ns.add(1)\ns.discard(1)\nd = {}\nd[1] = 2\nd[1] = 3\nd.pop(1)\nd.update(a=1)\n",
    "top level await": "import asyncio\nasync def f(x):\n    await asyncio.sleep(0)\n    return x + 1\nr = await f(1)\ns = await f(r)\n",
    "async for and with": "import asyncio\nasync def g():\n    for i in range(2):\n        yield i\nclass M:\n    async def __aenter__(self):\n        return 3\n    async def __aexit__(self, *e):\n        return None\ntotal = 0\nasync for v in g():\n    total += v\nasync with M() as m:\n    total += m\n",
    "gather": "import asyncio\nasync def f(x):\n    await asyncio.sleep(0)\n    y = x * 2\n    return y\nr = await asyncio.gather(f(1), f(2))\n",
    "try in loop": "for i in [1, 0, 2]:\n    try:\n        r = 4 // i\n    except ZeroDivisionError:\n        continue\n    finally:\n        last = i\n",
    "assert": "x = 1\nassert x == 1\ntry:\n    assert x == 2, 'no'\nexcept AssertionError as e:\n    m = str(e)\n",
    "system exit": "x = 1\nraise SystemExit(3)\n",
    "expression statements": "x = [3, 1]\nx.sort()\nx\nlen(x)\n'text'\nprint(x)\n",
    "type hints": "x: int = 1\ndef f(a: int) -> int:\n    b: int\n    b = a\n    return b\nr = f(x)\n",
    "stop iteration": "it = iter([1])\na = next(it)\ntry:\n    next(it)\nexcept StopIteration:\n    b = 1\nclass I:\n    def __iter__(self):\n        return self\n    n = 0\n    def __next__(self):\n        self.n += 1\n        if self.n > 2:\n            raise StopIteration\n        return self.n\nv = list(I())\nfor q in I():\n    w = q\n",
    "printing": "print('a', end='')\nprint('b')\nfor i in range(3):\n    print(i, i * i, sep='-')\n",
    "del in loop": "d = {1: 2, 3: 4}\nfor k in list(d):\n    del d[k]\nx = len(d)\n",
    "property": "class P:\n    @property\n    def v(self):\n        return 7\np = P()\nr = p.v\n",
    "long list": "a = list(range(8))\nfor i in range(4):\n    a[i], a[7 - i] = a[7 - i], a[i]\n",
}  # fmt: skip


@pytest.mark.parametrize("name", CONSTRUCTS)
def test_a_construct_steps_as_the_reference_says(name: str) -> None:
    assert_same_as_reference(CONSTRUCTS[name])


@pytest.mark.parametrize("name", ["multi line calls", "multi line conditions", "chained ifs", "recursion"])
def test_every_line_is_a_step_when_lines_are_asked_for(name: str) -> None:
    from tests.debugger.harness import trace_program

    statements = trace_program(CONSTRUCTS[name]).run.recorder.recorded_count
    lines = trace_program(CONSTRUCTS[name], by_line=True).run.recorder.recorded_count
    assert lines >= statements
