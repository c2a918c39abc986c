"""Named analyses: code over the variable `data`, a DataFrame or plain objects that can become one."""

_AS_FRAME = """import pandas as _pd
_rows = data if isinstance(data, list) else [data]
_frame = data if isinstance(data, _pd.DataFrame) else _pd.DataFrame(_rows)
"""

_SUMMARY = """__result__ = {
    "rows": len(_frame),
    "columns": {name: str(dtype) for name, dtype in _frame.dtypes.items()},
    "missing": {name: int(count) for name, count in _frame.isna().sum().items()},
    "numbers": _frame.describe().to_dict() if len(_frame.select_dtypes("number").columns) else {},
}
"""

_CORRELATION = """__result__ = _frame.select_dtypes("number").corr().to_dict()
"""

_QUALITY = """__result__ = {
    "rows": len(_frame),
    "duplicate_rows": int(_frame.astype(str).duplicated().sum()),
    "missing": {name: int(count) for name, count in _frame.isna().sum().items()},
    "constant_columns": [name for name in _frame if _frame[name].astype(str).nunique() <= 1],
    "mixed_type_columns": [
        name for name in _frame if _frame[name].dropna().map(lambda value: type(value).__name__).nunique() > 1
    ],
}
"""

_VALUE_COUNTS = """__result__ = {
    name: {str(value): int(n) for value, n in _frame[name].astype(str).value_counts().head(20).items()}
    for name in _frame
}
"""

_OUTLIERS = """def _outliers(column):
    low, high = column.quantile(0.25), column.quantile(0.75)
    reach = 1.5 * (high - low)
    outside = column[(column < low - reach) | (column > high + reach)]
    return {
        "low": float(low - reach),
        "high": float(high + reach),
        "rows": [{"row": int(row), "value": float(value)} for row, value in outside.head(100).items()],
        "count": len(outside),
    }

_numbers = _frame.reset_index(drop=True).select_dtypes("number")
__result__ = {name: _outliers(_numbers[name].dropna()) for name in _numbers}
"""

ANALYSES: dict[str, str] = {
    "SUMMARY": _AS_FRAME + _SUMMARY,
    "CORRELATION": _AS_FRAME + _CORRELATION,
    "QUALITY": _AS_FRAME + _QUALITY,
    "VALUE_COUNTS": _AS_FRAME + _VALUE_COUNTS,
    "OUTLIERS": _AS_FRAME + _OUTLIERS,
}
"""Source text by name."""
