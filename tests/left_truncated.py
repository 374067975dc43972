"""Left-truncated data with the estimates of R survival 3.5-3, and simulated cohorts with late entry.

d <- data.frame(entry, time, event, x, group)
coxph(Surv(entry, time, event) ~ x, d, ties = "breslow")      COEFFICIENT, LOG_LIKELIHOODS (at 0 and at the maximum)
coxph(... ~ x, ties = "efron")                                EFRON
coxph(... ~ ridge(x, theta = 2, scale = FALSE))               RIDGE
basehaz(coxph(...), centered = FALSE)                         HAZARD
survfit(Surv(entry, time, event) ~ 1, d)                      AT_RISK, SURVIVAL, LOG_ERROR (conf.type = "log-log": LOW)
summary(survfit(...), rmean = 10)                             RESTRICTED_MEAN
concordance(Surv(entry, time, event) ~ x, d, reverse = TRUE)  CONCORDANCE (30 concordant, 10 discordant)
coxph(... ~ factor(group + 2 * (x > 0.45)), ties = "exact")$score   LOG_RANK_4 and, ~ group, LOG_RANK_2
"""

import numpy as np

ENTRY = np.array([0.0, 0, 1, 2, 2, 3, 4, 4, 5, 6, 0, 7])
TIME = np.array([5.0, 8, 6, 4, 9, 7, 12, 10, 8, 11, 3, 12])
EVENT = np.array([1, 1, 0, 1, 1, 1, 0, 1, 1, 0, 1, 1]) == 1
X = np.array([1.2, -0.3, 0.5, 2.0, -1.1, 0.4, -0.8, 0.9, 1.5, -0.2, 0.7, -1.4])
GROUP = np.arange(12) % 2
COEFFICIENT, LOG_LIKELIHOODS = 0.771345841757, (-15.0560389888, -13.1001462244)
VARIANCE = 0.166910902974
EFRON, EFRON_LOG_LIKELIHOODS = 0.801357428298, (-14.901888309, -12.817645997)
RIDGE = 0.584891017825
TIMES = np.array([3.0, 4, 5, 6, 7, 8, 9, 10, 11, 12])
HAZARD = np.array(
    [
        0.0861431985167,
        0.1749996744811,
        0.284665757234,
        0.284665757234,
        0.3938116948219,
        0.6395045083273,
        0.8795204633188,
        1.147019961183,
        1.147019961183,
        2.2844768666942,
    ]
)
AT_RISK = np.array([6, 6, 7, 7, 7, 7, 5, 4, 3, 2])
SURVIVAL = np.array(
    [
        0.833333333333,
        0.694444444444,
        0.595238095238,
        0.595238095238,
        0.510204081633,
        0.36443148688,
        0.291545189504,
        0.218658892128,
        0.218658892128,
        0.109329446064,
    ]
)
LOG_ERROR = np.array(
    [
        0.182574185835,
        0.258198889747,
        0.300792603759,
        0.300792603759,
        0.338061701891,
        0.414039335605,
        0.470561974057,
        0.552052447474,
        0.552052447474,
        0.897085227145,
    ]
)
LOW = np.array(
    [
        0.27312284992836,
        0.2320492855343,
        0.19863758179922,
        0.19863758179922,
        0.16508108964485,
        0.10483701678474,
        0.07391697421502,
        0.04516127116006,
        0.04516127116006,
        0.00745892829067,
    ]
)
RESTRICTED_MEAN = 6.88443472627
CONCORDANCE = 0.75
LOG_RANK_2, LOG_RANK_4 = 0.014753149821, 3.43895902746


def simulated(count, seed, effect=1.0, rate=0.03, latest=40.0):
    """(x, entry, time, event) of `count` patients: exponential times, half of them with a uniform entry, censoring.

    Those whose event or censoring comes before their entry are in no sample. The hazard is rate * exp(effect * x).
    """
    random = np.random.default_rng(seed)
    drawn = 6 * count
    x = random.normal(size=drawn)
    death = random.exponential(1 / (rate * np.exp(effect * x)))
    entry = np.where(random.random(drawn) < 0.5, 0.0, random.uniform(0, latest, drawn))
    censoring = entry + random.uniform(5, 80, drawn)
    time, event = np.minimum(death, censoring), death <= censoring
    sample = np.flatnonzero(time > entry)[:count]
    assert len(sample) == count
    return x[sample], entry[sample], time[sample], event[sample]
