"""Writes golden.json: what scikit-learn, SciPy and NumPy say, for the tests of
this package. Run it again only to add cases:

    python3 -m venv oracle && oracle/bin/pip install scikit-learn==1.9.1 scipy==1.17.1
    oracle/bin/python golden.py
"""

import json
import pathlib

import numpy as np
import scipy
import sklearn
from scipy import stats
from sklearn.metrics import roc_auc_score

rng = np.random.default_rng(7)


def auroc():
    cases = []
    for n, distinct, share in [(2, 2, 0.5), (10, 3, 0.4), (200, 7, 0.1), (500, 10**6, 0.5), (500, 25, 0.02)]:
        labels = rng.random(n) < share
        labels[0], labels[1] = True, False
        scores = np.round((rng.random(n) + 0.3 * labels) * distinct) / distinct
        scores = scores.astype(np.float32).astype(float)
        groups = rng.integers(0, max(2, n // 3), n)
        weight = rng.integers(0, 4, groups.max() + 1)
        weight[groups[0]], weight[groups[1]] = 2, 3
        cases.append({
            "scores": scores.tolist(), "positive": labels.tolist(), "group": groups.tolist(),
            "weight": weight.tolist(), "auroc": roc_auc_score(labels, scores),
            "weighted": roc_auc_score(labels, scores, sample_weight=weight[groups]),
        })
    return cases


def proportions():
    cases = []
    for k, n in [(0, 1), (1, 1), (0, 459), (3, 10), (10, 2010), (459, 459), (999, 1000)]:
        for level in (0.8, 0.95, 0.99):
            test = stats.binomtest(k, n)
            exact, wilson = test.proportion_ci(level, "exact"), test.proportion_ci(level, "wilson")
            cases.append({"k": k, "n": n, "level": level, "exact": [exact.low, exact.high], "wilson": [wilson.low, wilson.high]})
    return cases


def quantile_ranks():
    """By brute force over the binomial distribution."""
    cases = []
    for n in (1, 2, 10, 59, 100, 1000, 20000):
        for q in (0.5, 0.9, 0.99):
            for level in (0.9, 0.95, 0.99):
                tail = (1 - level) / 2
                below = stats.binom.cdf(np.arange(-1, n + 1), n, q)  # below[i] = P(X <= i - 1)
                low = max(l for l in range(0, n + 1) if below[l] <= tail)
                high = min([u for u in range(1, n + 2) if stats.binom.sf(u - 1, n, q) <= tail])
                cases.append({"n": n, "q": q, "level": level, "low": low, "high": high})
    return cases


def quantiles():
    values = np.sort(rng.normal(size=37))
    return {"values": values.tolist(), "at": {str(q): float(np.quantile(values, q)) for q in (0, 0.01, 0.5, 0.77, 1)}}


def judgements():
    """The e-value and both sequences as the docstrings define them, on grids."""
    step, end = 0.1, 7.0
    cases = []
    for looks in ([[0, 50, 0, 950]], [[3, 50, 1, 950]], [[1, 100, 5, 900], [4, 250, 6, 750], [9, 500, 3, 500]],
                  [[0, 1000, 12, 1000]], [[20, 400, 0, 400]]):
        a = np.array(looks, float)
        x, n1, y, n0 = a.T

        def loglik(d):
            odds = n1 / n0 * np.exp(d)
            return float((x * np.log(odds / (1 + odds)) + y * np.log(1 / (1 + odds))).sum())

        def mixture(centre, start):
            d = start + step * np.arange(0, int((end - start) / step + 1 + 1e-6))
            w = 1 / (1 + d**2)
            return float(np.log((w / w.sum() * np.exp([loglik(centre + v) for v in d])).sum()))

        for ratio, alpha in ((1.0, 0.05), (2.0, 0.01)):
            e = np.exp(mixture(np.log(ratio), step / 2) - loglik(np.log(ratio)))
            grid = np.linspace(-15, 15, 60001)
            two_sided = mixture(0, -end)
            kept = grid[[two_sided - loglik(g) < -np.log(alpha) for g in grid]]
            bounds = [0 if kept[0] == grid[0] else np.exp(kept[0]), None if kept[-1] == grid[-1] else np.exp(kept[-1])]
            rates = []
            for events, total in ((x.sum(), n1.sum()), (y.sum(), n0.sum())):
                p = np.linspace(0, 1, 200001)[1:-1]
                logs = [stats.betabinom.logpmf(events, total, 0.5, b) - scipy.special.gammaln(total + 1)
                        + scipy.special.gammaln(events + 1) + scipy.special.gammaln(total - events + 1) for b in (50, 0.5)]
                mixed = np.logaddexp(*logs) - np.log(2)
                ok = p[mixed - scipy.special.xlogy(events, p) - scipy.special.xlog1py(total - events, -p) < -np.log(alpha / 2)]
                rates.append([float(ok[0]) if events else 0.0, float(ok[-1])])
            cases.append({"looks": looks, "ratio": ratio, "alpha": alpha, "evalue": float(e), "ratio_bounds": bounds,
                          "canary": rates[0], "control": rates[1]})
    return cases


def cluster_bootstrap():
    """Percentile interval of the difference of two models' AUROC: whole groups
    are drawn, copied out row by row, and scikit-learn does the rest."""
    groups = np.repeat(np.arange(50), 4)
    positive = np.repeat(rng.random(50) < 0.35, 4)
    mood = np.repeat(rng.normal(size=50), 4)
    a = mood + rng.normal(size=200) + 1.2 * positive
    b = mood + rng.normal(size=200) + 0.6 * positive
    rows = [np.flatnonzero(groups == g) for g in range(50)]
    differences = []
    while len(differences) < 8000:
        drawn = np.concatenate([rows[g] for g in rng.integers(0, 50, 50)])
        if 0 < positive[drawn].sum() < len(drawn):
            differences.append(roc_auc_score(positive[drawn], a[drawn]) - roc_auc_score(positive[drawn], b[drawn]))
    return {"a": a.tolist(), "b": b.tolist(), "positive": positive.tolist(), "group": groups.tolist(),
            "difference": roc_auc_score(positive, a) - roc_auc_score(positive, b),
            "low": float(np.quantile(differences, 0.05)), "high": float(np.quantile(differences, 0.95))}


out = {
    "made_with": {"numpy": np.__version__, "scipy": scipy.__version__, "sklearn": sklearn.__version__},
    "auroc": auroc(), "proportions": proportions(), "quantile_ranks": quantile_ranks(),
    "quantiles": quantiles(), "judgements": judgements(),
    "cluster_bootstrap": cluster_bootstrap(),
}
path = pathlib.Path(__file__).with_name("golden.json")
path.write_text(json.dumps(out, separators=(",", ":")) + "\n")
