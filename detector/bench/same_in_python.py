# The work of `detector-bench score` in Python with numpy and scikit-learn, as fast as it can reasonably be written: the same vectors,
# forest, robust z, p-values, groups and reasons of the strangest. Left out, to its favour: consistency, decoding of the store's rows
# (numbers come as one array), labels and verdicts. Prints processor time and peak memory as one JSON line.
import json
import resource
import sys
import time

import numpy as np
from sklearn.ensemble import IsolationForest

START = time.process_time()
FOLDER = sys.argv[1]
COLUMNS = sys.argv[2].split(",")
N_EXPLAINED = int(sys.argv[3])


def vectors(raw):
    """The features of the dictionary, in its families; NaN for missing."""
    c = {name: raw[:, i] for i, name in enumerate(COLUMNS)}
    n = np.maximum(c["requests"], 1)
    events = c["n_events"]
    answers = np.maximum(c["requests"] - c["n_unended"], 0)
    unknown = c["requests"] - c["n_headers"]
    per_minute = c["requests"] / np.maximum(c["active_minutes"], 1)
    nan = np.full(len(n), np.nan, np.float32)

    def at_least(k, values):
        return np.where(events >= k, values, np.nan)

    def share(part, whole):
        return np.where(whole > 0, np.clip(part / np.maximum(whole, 1), 0, 1), np.nan)

    joined = c["n_joined"]
    counts = ["requests", "active_minutes", "max_per_minute", "n_paths", "n_login", "n_admin", "n_dotfile", "n_suspicious", "uri_max",
              "s404", "s40x", "n_statuses", "bytes_p50", "bytes_p95", "bytes", "n_header_orders", "one_hello_bytes", "n_h2_fps",
              "one_window", "one_mss", "n_user_agents"]
    log = [np.log1p(c[name]) for name in counts]
    log += [np.log1p(c["requests"] * 3600 / np.maximum(c["span_s"], 300)), np.log1p(per_minute),
            np.log1p(at_least(5, c["max_per_minute"] / np.maximum(per_minute, 1e-3))),
            np.log1p(np.where(joined > 0, joined / np.maximum(c["n_conns"], 1), np.nan)),
            np.log1p(at_least(3, c["gap_p50_us"] / 1e6)), np.log1p(at_least(5, c["gap_p95_us"] / 1e6)),
            np.log1p(at_least(5, c["gap_sd_us"] / np.maximum(c["gap_mean_us"], 1))), np.log1p(c["params"] / n),
            np.log1p(c["syn_to_hello_p50_us"] / 1e3)]
    ratios = [(share(c[k], c["requests"]), n) for k in ["night_requests", "n_static", "n_favicon", "n_robots", "n_login", "n_api", "n_head",
                                                        "n_options", "n_post", "n_h2"]]
    ratios += [(at_least(3, c["gap_fast_share"]), n), (at_least(3, share(c["n_paths"], events)), n), (share(n - c["n_h2"], n), n)]
    ratios += [(share(c[k], answers), answers) for k in ["s4xx", "s404", "s40x", "s5xx", "s3xx", "s304"]]
    ratios += [(share(c[k] - unknown, c["n_headers"]), c["n_headers"]) for k in ["no_language", "no_encoding", "no_sec_fetch", "no_referer"]]
    ratios += [(share(c[k], c["n_headers"]), c["n_headers"]) for k in ["n_cookie", "n_client_hints"]]
    ratios += [(share(c[k], joined), joined) for k in ["n_sni", "n_resumed", "n_pq", "n_contradicting"]]
    ratios += [(share(c["n_sessions"], c["n_cookie"]), c["n_cookie"])]
    shrunk = [(r * k + 4 * np.nanmedian(r)) / (k + 4) for r, k in ratios]
    plain = [at_least(10, c["gap_lag1"]), at_least(3, c["path_entropy"]), at_least(5, c["transition_entropy"]), c["depth_mean"],
             c["header_count_mean"], ((c["n_post"] > 0) & (c["n_get"] == 0)).astype(np.float32),
             np.where(c["one_ttl"] > 64, 128, 64)]
    return [np.asarray(f, np.float32) for f in log + shrunk + plain], nan


def context(texts):
    """Rarities and counts by address, network, fingerprint."""
    address, ja4, host, order, h2, tcp = texts
    out = []
    for values in (ja4, order, h2, tcp):
        _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
        out.append(-np.log2(counts[inverse] / len(values)))
    _, inverse, counts = np.unique(ja4, return_inverse=True, return_counts=True)
    out.append(np.log1p(counts[inverse]))
    out.append(np.array([int(j[4:6]) for j in ja4]))
    out.append(np.array([int(j[6:8]) for j in ja4]))
    out.append(np.array([int(j[1:3]) for j in ja4]))
    prefix = np.array([a.rpartition(".")[0] for a in address])
    _, inverse, counts = np.unique(prefix, return_inverse=True, return_counts=True)
    out.append(np.log1p(counts[inverse]))
    hosts, fingerprints, agents = {}, {}, {}
    for a, h, j in zip(address, host, ja4):
        hosts.setdefault(a, set()).add(h)
        fingerprints.setdefault(a, set()).add(j)
        agents[a] = agents.get(a, 0) + 1
    out.append(np.log1p([len(hosts[a]) for a in address]))
    out.append(np.log1p([len(fingerprints[a]) for a in address]))
    out.append(np.log1p([agents[a] for a in address]))
    return [np.asarray(f, np.float32) for f in out], prefix


def surprise(forest, row):
    """Branch surprise along the path of each tree, by feature."""
    credit = np.zeros(len(row))
    for estimator in forest.estimators_:
        tree = estimator.tree_
        left, right, feature, cut, samples = tree.children_left, tree.children_right, tree.feature, tree.threshold, tree.n_node_samples
        node = 0
        while left[node] >= 0:
            child = left[node] if row[feature[node]] <= cut[node] else right[node]
            credit[feature[node]] += np.log(samples[node] / samples[child])
            node = child
    return credit


raw = np.load(f"{FOLDER}/numbers.npy")
with open(f"{FOLDER}/texts.tsv") as file:
    texts = [np.array(column) for column in zip(*(line.rstrip("\n").split("\t") for line in file))]
features, _ = vectors(raw)
more, prefix = context(texts)
matrix = np.column_stack(features + more)
ready = np.flatnonzero(raw[:, COLUMNS.index("requests")] >= 5)
chosen = np.random.default_rng(1).permutation(ready)[:8192]
fit, held = chosen[::2], chosen[1::2]
center = np.nanmedian(matrix[fit], axis=0)
center = np.where(np.isnan(center), 0, center)
matrix = np.where(np.isnan(matrix), center, matrix)
quartiles = np.percentile(matrix[fit], [25, 75], axis=0)
spread = np.maximum(quartiles[1] - quartiles[0], 0.1)
np.percentile(matrix[fit], np.linspace(0, 100, 21), axis=0)
forest = IsolationForest(n_estimators=100, max_samples=256, random_state=1).fit(matrix[fit])


def voices(rows):
    z = np.abs(rows - center) / spread
    top = np.partition(z, -3, axis=1)[:, -3:].mean(axis=1)
    return -forest.score_samples(rows), np.log1p(top)


reference = [np.sort(v) for v in voices(matrix[held])]
scores = voices(matrix[ready])
p = [(len(r) - np.searchsorted(r, s) + 0.5) / (len(r) + 1) for r, s in zip(reference, scores)]
bits = sum(np.maximum(-np.log2(q) - 1, 0) / 2 for q in p)
groups = []
for values in (prefix, texts[1], texts[3]):
    order = np.argsort(values, kind="stable")
    edges = np.flatnonzero(values[order][1:] != values[order][:-1]) + 1
    for members in np.split(order, edges):
        if len(members) >= 5:
            q = np.percentile(matrix[members[:200]], [25, 75], axis=0)
            groups.append((len(members), float(np.minimum((q[1] - q[0]) / spread, 2).mean())))
reasons = {}
for position in np.argsort(-bits)[:N_EXPLAINED]:
    row = matrix[ready[position]]
    credit = surprise(forest, row)
    z = np.abs(row - center) / spread
    reasons[int(position)] = [(int(i), float(credit[i]), float(z[i])) for i in np.argsort(-credit)[:8]]
encoded = 0
for position, row in enumerate(matrix):
    encoded += len(row.astype(np.float32).tobytes()) + 64 + 40 * len(reasons.get(position, ()))
print(json.dumps({
    "cpu_ms": (time.process_time() - START) * 1000, "features": matrix.shape[1], "clients": len(matrix), "groups": len(groups), "explained": len(reasons),
    "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    "cpu_with_imports_ms": time.process_time() * 1000,
}))
