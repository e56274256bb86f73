"""A hospital's own table as a CSV file: label, site and patient columns, thirty measurements.

    python examples/table.py > homes/bern/patients.csv

It holds the patients of `task.py`, so that hospitals with the table and hospitals with that task
learn together. In the table's `node.toml`:

    [task.options]
    name = "breast-cancer-example"
    dataset = "patients.csv"
    patient = "patient"
    site_column = "site"
    classes = ["malignant", "benign"]
    model = "mlp:16"
"""

from __future__ import annotations

import csv
import sys

from sklearn.datasets import load_breast_cancer

SITES = ("bern", "graz", "ulm")


def rows() -> list[list[str]]:
    """The header, then one row a patient."""
    table = load_breast_cancer()
    found = [["label", "site", "patient", *(str(name) for name in table.feature_names)]]
    for number, (target, values) in enumerate(zip(table.target, table.data, strict=True)):
        label, site = str(table.target_names[target]), SITES[number % len(SITES)]
        found.append([label, site, f"patient {number}", *(repr(float(x)) for x in values)])
    return found


if __name__ == "__main__":
    csv.writer(sys.stdout).writerows(rows())
