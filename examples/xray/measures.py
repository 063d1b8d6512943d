"""What the X-ray example's trainer judges epochs and thresholds by."""
import numpy as np


def auroc(scores, positive):
    """Area under the ROC curve by ranks, ties counted half; None without both classes."""
    n_pos, n_neg = int(positive.sum()), int((~positive).sum())
    if not n_pos or not n_neg:
        return None
    _, at, counts = np.unique(scores, return_inverse=True, return_counts=True)
    ranks = np.cumsum(counts) - (counts - 1) / 2
    return float((ranks[at][positive].sum() - n_pos * (n_pos + 1) / 2) / (n_pos * n_neg))


def macro_auroc(scores, targets):
    each = [auroc(scores[:, i], targets[:, i] > 0.5) for i in range(targets.shape[1])]
    each = [a for a in each if a is not None]
    if not each:
        raise SystemExit("train.py: no label has both classes in split val: no epoch can be called the best")
    return float(np.mean(each))


def best_threshold(scores, positive):
    """The score from which on positive gives the highest F1, half-way to the next lower."""
    order = np.argsort(-scores, kind="stable")
    ranked, hits = scores[order], np.cumsum(positive[order])
    f1 = 2 * hits / (np.arange(1, len(scores) + 1) + positive.sum())
    last_of_tie = np.append(ranked[1:] != ranked[:-1], True)
    at = int(np.argmax(np.where(last_of_tie, f1, -1)))
    return float((ranked[at] + (ranked[at + 1] if at + 1 < len(ranked) else 0.0)) / 2)
