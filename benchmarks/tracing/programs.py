"""The programs that are traced."""

LOOP = "for i in range({n}):\n    x = i * 2\n"
LOOP_IN_FUNCTION = """\
def f(n):
    t = 0
    for i in range(n):
        a = i + 1
        b = a * 2
        t = t + b
    return t
f({n})
"""
QSORT = """\
def numbers(n, s=7):
    out = []
    for _ in range(n):
        s = (s * 1103515245 + 12345) % 2147483648
        out.append(s % 10000)
    return out
def qsort(a, lo, hi):
    if lo >= hi:
        return
    p = a[(lo + hi) // 2]
    i = lo
    j = hi
    while i <= j:
        while a[i] < p:
            i += 1
        while a[j] > p:
            j -= 1
        if i <= j:
            a[i], a[j] = a[j], a[i]
            i += 1
            j -= 1
    qsort(a, lo, j)
    qsort(a, i, hi)
data = numbers(300)
qsort(data, 0, len(data) - 1)
"""
FIB = "def fib(n):\n    if n < 2:\n        return n\n    return fib(n - 1) + fib(n - 2)\nfib(15)\n"
PANDAS = """\
import numpy as np
import pandas as pd
frame = pd.DataFrame({'k': np.arange(5000) % 50, 'v': np.arange(5000) * 1.5})
total = 0.0
for turn in range(20):
    part = frame[frame['v'] > turn * 10]
    groups = part.groupby('k')['v'].mean()
    top = groups.sort_values(ascending=False).head(5)
    total += float(top.sum())
"""
PROGRAMS = {
    "loop": LOOP.format(n=100_000),
    "function": LOOP_IN_FUNCTION.format(n=25_000),
    "qsort": QSORT,
    "fib": FIB,
}
SMALLER = {
    "loop": LOOP.format(n=2000),
    "function": LOOP_IN_FUNCTION.format(n=500),
    "qsort": QSORT,
    "fib": FIB,
}
"""For the peers, which would take minutes on the others."""
