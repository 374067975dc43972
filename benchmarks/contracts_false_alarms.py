"""Claim: a valid cohort never fails an expectation, over 200 resamples of four fifths of its patients.

Run: python benchmarks/contracts_false_alarms.py [--resamples 200]   (about one second each)
"""

import argparse
import sys
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))  # the cohort is that of the tests

from mcti.contracts import measurements, suites
from tests.contracts import factories
from tests.contracts.test_expectations import COHORT_RULES, FEATURE_RULES, RULES, features_of


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--resamples", type=int, default=200)
    count = parser.parse_args().resamples
    base = factories.good(1, patients=400)
    alarms: Counter[str] = Counter()
    for seed in range(count):
        sample = factories.resample(base, seed)
        results = suites.run(measurements.measure(sample), COHORT_RULES)
        results += suites.run(features_of(sample), FEATURE_RULES)
        alarms.update(result.id for result in results if not result.passed)
    print(f"{sum(alarms.values())} false alarms of {len(RULES)} expectations in {count} resamples {dict(alarms)}")
    return int(bool(alarms))


if __name__ == "__main__":
    sys.exit(main())
