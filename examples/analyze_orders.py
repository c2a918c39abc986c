"""Data in, table out: pandas runs in the sandbox, the typed answer becomes a DataFrame here."""

from sandboxd_client import Csv
from sandboxd_client.sync import Client

ORDERS = """day,region,revenue
2024-01-01,north,120.5
2024-01-01,south,80.0
2024-01-02,north,99.5
2024-01-02,south,140.0
2024-01-03,north,180.0
"""

CODE = """
orders["day"] = orders["day"].astype("datetime64[ns]")
orders.groupby("region")["revenue"].agg(["count", "sum", "max"]).reset_index()
"""

with Client.connect() as client:
    summary = client.analyze_data(ORDERS, "summary").raise_for_status().result
    print("columns:", ", ".join(summary["columns"]))
    result = client.quick_execute(CODE, inputs={"orders": Csv(ORDERS)}).raise_for_status()
    frame = result.result.to_pandas()
    print(frame.to_string(index=False))
    print("total:", frame["sum"].sum())
