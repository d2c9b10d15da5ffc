#!/usr/bin/env python3
# Compares detector-forest with scikit-learn: quality, speed, seeds, re-scoring, both voices, planted causes, memory.
"""Prints one table for each part, ours beside scikit-learn's, of one run on this machine.

    python3 detector/forest/bench/compare.py [--parts quality,speed,...] [--data FOLDER] [--quick] [--json OUT]

What it needs: cargo, and a Python with numpy, scipy and scikit-learn. Run by another Python it goes on in the one that
--python or FOREST_PYTHON names, else in a virtual environment that it makes once in the build folder.
FOLDER holds the ADBench .npz files (default ../shared/data/detection/adbench beside the checkout); sets that are
absent are said and left out. Times are CPU seconds, least of the repeats, except where a column says wall.
"""
import argparse, json, os, pathlib, resource, subprocess, sys, tempfile, time, warnings

ROOT = pathlib.Path(__file__).resolve().parents[3]
NEEDS = ["numpy", "scipy", "scikit-learn==1.9.1"]


def find_python(wanted):
    """Runs this script again in a Python that has what it needs, unless this one has."""
    try:
        import numpy, scipy, sklearn  # noqa: F401
        return
    except ImportError:
        pass
    wanted = wanted or os.environ.get("FOREST_PYTHON")
    if not wanted:
        home = target() / "forest-bench-venv"
        wanted = str(home / "bin" / "python3")
        if not os.path.exists(wanted):
            subprocess.check_call([sys.executable, "-m", "venv", str(home)])
            subprocess.check_call([wanted, "-m", "pip", "install", "-q", *NEEDS])
    os.execv(wanted, [wanted, *sys.argv])


def target():
    asked = subprocess.check_output(
        ["cargo", "metadata", "--no-deps", "--format-version", "1"], cwd=ROOT)
    return pathlib.Path(json.loads(asked)["target_directory"])


parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--parts", default="quality,speed,job,seeds,json,voices,planted,explain")
parser.add_argument("--data", default=str(ROOT / "../shared/data/detection/adbench"))
parser.add_argument("--profile", default="dev", choices=["dev", "release"])
parser.add_argument("--seeds", type=int, default=60, help="seeds of each set under 15 000 rows; a sixth on the larger")
parser.add_argument("--sets", help="only these sets, by commas")
parser.add_argument("--quick", action="store_true", help="a tenth of the seeds: to see that it runs")
parser.add_argument("--binary", help="a forest-bench that is built already")
parser.add_argument("--python", help="a Python with numpy, scipy and scikit-learn")
parser.add_argument("--json", help="also write all figures here")
args = parser.parse_args()
find_python(args.python)

import numpy as np
import sklearn
from scipy.stats import kendalltau, spearmanr
from sklearn.ensemble import IsolationForest
from sklearn.metrics import average_precision_score, roc_auc_score

warnings.filterwarnings("ignore")
SETS = ["6_cardio", "30_satellite", "2_annthyroid", "24_mnist", "23_mammography", "32_shuttle", "34_smtp", "16_http"]
FIGURES = {}
work = pathlib.Path(tempfile.mkdtemp(prefix="forest-bench-"))


def say(*words):
    print(*words, flush=True)


def build():
    command = ["cargo", "build", "-q", "-p", "detector-forest", "--example", "forest-bench"]
    folder = "debug"
    if args.profile == "release":
        command.append("--release")
        folder = "release"
    subprocess.check_call(command, cwd=ROOT)
    return target() / folder / "examples" / "forest-bench"


def load():
    """The given sets as double precision, rows one after the other, for both sides alike."""
    sets = {}
    for name in SETS:
        if args.sets and name.split("_")[1] not in args.sets.split(","):
            continue
        path = pathlib.Path(args.data) / f"{name}.npz"
        if not path.exists():
            say(f"absent and left out: {path}")
            continue
        data = np.load(path)
        sets[name.split("_")[1]] = (np.ascontiguousarray(data["X"], dtype=float), data["y"].astype(int))
    return sets


def save(name, X, y=None):
    path = work / f"{name}.npz"
    if not path.exists():
        np.savez(path, X=X, y=np.zeros(len(X), int) if y is None else y)
    return path


def ours(*words):
    return subprocess.check_output([BIN, *map(str, words)], text=True)


def our_scores(path, first, step, count, trees=100):
    out = work / "scores.npy"
    ours("scores", path, out, first, step, count, trees)
    return np.load(out)


def their_scores(X, seed):
    return -IsolationForest(n_estimators=100, max_samples=256, random_state=seed).fit(X).score_samples(X)


def quality(sets):
    say("\nQuality: mean over seeds, ROC-AUC / average precision; bar: AUC within .003 under 15 000 rows, else 3 SE")
    say(f"{'set':12}{'rows':>8}{'seeds':>6}  {'ours AUC':>9}{'AP':>7}  {'theirs AUC':>10}{'AP':>7}  {'difference':>10}{'allowed':>9}{'SE of it':>9}")
    table = {}
    for name, (X, y) in sets.items():
        small = len(X) < 15_000
        n = (args.seeds if small else args.seeds // 6) // (10 if args.quick else 1) or 1
        mine = our_scores(save(name, X, y), 0, 100_003, n)
        mine = np.array([(roc_auc_score(y, s), average_precision_score(y, s)) for s in mine])
        other = np.array([(roc_auc_score(y, s), average_precision_score(y, s))
                          for s in (their_scores(X, i * 100_003 % 2**32) for i in range(n))])
        se = np.sqrt((mine.var(0, ddof=1) + other.var(0, ddof=1)) / n)[0] if n > 1 else np.nan
        difference = mine[:, 0].mean() - other[:, 0].mean()
        allowed = .003 if small else 3 * se
        ok = abs(difference) <= allowed
        table[name] = [*mine.mean(0), *other.mean(0), difference, allowed]
        say(f"{name:12}{len(X):8}{n:6}  {mine[:,0].mean():9.4f}{mine[:,1].mean():7.3f}  {other[:,0].mean():10.4f}"
            f"{other[:,1].mean():7.3f}  {difference:+10.4f}{allowed:9.4f}{se:9.4f} {'ok' if ok else 'MISSED'}")
    mean = np.mean(list(table.values()), axis=0)
    say(f"{'mean':12}{'':14}  {mean[0]:9.4f}{mean[1]:7.3f}  {mean[2]:10.4f}{mean[3]:7.3f}")
    FIGURES["quality"] = table


def best(work, repeats):
    cpu = wall = 9e9
    for _ in range(repeats):
        a, b = time.process_time(), time.perf_counter()
        result = work()
        cpu, wall = min(cpu, time.process_time() - a), min(wall, time.perf_counter() - b)
    return cpu, wall, result


def lognormal(n, seed=1):
    rng = np.random.default_rng(seed)
    return rng.lognormal(0, rng.uniform(.3, 1.5, 60), size=(n, 60))


def speed(sets):
    chosen = {name: sets[name][0] for name in ["http", "shuttle", "mnist"] if name in sets}
    chosen["lognormal"] = lognormal(200_000)
    say("\nSpeed: CPU seconds on one thread, ratio theirs / ours of this run; two threads: wall against their default")
    say(f"{'set':10}{'rows × d':>13}  {'fit theirs':>10}{'ours':>8}{'ratio':>7}{'order-free':>11}{'ratio':>6}  "
        f"{'score theirs':>12}{'ours':>8}{'ratio':>6}  {'two: theirs':>11}{'ours':>8}{'ratio':>6}  {'MiB':>5}")
    table = {}
    repeats = 2 if args.quick else 7
    for name, X in chosen.items():
        path = save(name, X)
        runs = []
        # In turn, so that what else the machine does falls on both.
        for _ in range(1 if args.quick else 3):
            fit_cpu, _, model = best(lambda: IsolationForest(
                n_estimators=100, max_samples=256, random_state=1).fit(X), 2)
            score_cpu, score_wall, _ = best(lambda: model.score_samples(X), 3)
            one = json.loads(ours("time", path, 1, repeats, "position"))
            free = json.loads(ours("time", path, 1, repeats, "content"))
            two = json.loads(ours("time", path, 2, repeats * 2, "position"))
            runs.append([fit_cpu, one["fit_cpu"], free["fit_cpu"], score_cpu, one["score_cpu"],
                         score_wall, two["score_wall"], one["memory_mib"]])
        r = np.min(runs, axis=0)
        table[name] = r.tolist()
        say(f"{name:10}{f'{len(X)} × {X.shape[1]}':>13}  {r[0]:10.4f}{r[1]:8.4f}{r[0]/r[1]:6.0f}x{r[2]:11.4f}{r[0]/r[2]:5.0f}x  "
            f"{r[3]:12.4f}{r[4]:8.4f}{r[3]/r[4]:5.1f}x  {r[5]:11.4f}{r[6]:8.4f}{r[5]/r[6]:5.1f}x  {r[7]:5.1f}")
    FIGURES["speed"] = table



def seeds(sets):
    say("\nSeeds: rank correlation of scores of seeds s and s + 1, and of s and s + 1 000 000; equal within 2 SE is the bar")
    n = 6 if args.quick else 60
    table = {}
    for name in ["cardio", "annthyroid", "satellite"]:
        if name not in sets:
            continue
        path = save(name, *sets[name])
        base, near, far = (our_scores(path, first, 10, n) for first in (0, 1, 1_000_000))
        close = np.array([spearmanr(a, b)[0] for a, b in zip(base, near)])
        apart = np.array([spearmanr(a, b)[0] for a, b in zip(base, far)])
        se = np.sqrt((close.var(ddof=1) + apart.var(ddof=1)) / n)
        difference = close.mean() - apart.mean()
        table[name] = [close.mean(), apart.mean(), se]
        say(f"{name:12} {n} pairs: {close.mean():.4f} and {apart.mean():.4f}, difference {difference:+.4f}, "
            f"2 SE {2*se:.4f} {'ok' if abs(difference) <= 2*se else 'MISSED'}")
    FIGURES["seeds"] = table


def c(n):
    if n <= 1:
        return 0.0
    if n == 2:
        return 1.0
    return 2 * (np.log(n - 1) + np.euler_gamma) - 2 * (n - 1) / n


def rescore(sets):
    say("\nTrees exported as JSON and scored in Python: largest difference of a score; bar 1e-6")
    for name in ["cardio", "mnist", "shuttle"]:
        if name not in sets:
            continue
        X, y = sets[name]
        path, out = save(name, X, y), work / "trees.json"
        ours("json", path, out, 5)
        forest = json.loads(out.read_text())
        rows = X[:: max(1, len(X) // 500)].astype(np.float32)
        total = np.zeros(len(rows))
        for tree in forest["trees"]:
            for i, row in enumerate(rows):
                node, depth = tree[0], 0
                while len(node) > 1:
                    feature, cut, left, right, _ = node
                    node, depth = tree[left if row[feature] <= cut else right], depth + 1
                total[i] += depth + c(node[-1])
        scores = 2 ** (-total / len(forest["trees"]) / c(forest["sample_size"]))
        mine = our_scores(path, 5, 1, 1)[0][:: max(1, len(X) // 500)]
        difference = np.abs(scores - mine).max()
        FIGURES.setdefault("json", {})[name] = difference
        say(f"{name:12} {len(rows)} rows: {difference:.1e} {'ok' if difference <= 1e-6 else 'MISSED'}")


def evidence(path, seed):
    out = work / "evidence.npy"
    told = json.loads(ours("evidence", path, out, seed))
    return np.load(out), told


def report(title, cases):
    say(f"\n{title}: ROC-AUC / average precision, mean of {cases[0][3]} seeds")
    say(f"{'set':12}{'forest':>16}{'robust z':>16}{'both':>16}")
    table = {}
    for name, path, y, n in cases:
        got = []
        for seed in range(n):
            e, _ = evidence(path, seed * 100_003)
            got.append([f(y, e[:, column]) for column in (0, 3, 6) for f in (roc_auc_score, average_precision_score)])
        m = table[name] = np.mean(got, axis=0)
        say(f"{name:12}" + "".join(f"{m[i]:9.4f}/{m[i+1]:.4f}"[:17].rjust(16) for i in (0, 2, 4)))
    m = np.mean(list(table.values()), axis=0)
    say(f"{'mean':12}" + "".join(f"{m[i]:9.4f}/{m[i+1]:.4f}"[:17].rjust(16) for i in (0, 2, 4)))
    FIGURES[title] = {k: v.tolist() for k, v in table.items()}


def voices(sets):
    report("Labelled sets, voices alone and together",
           [(name, save(name, X, y), y, 1 if args.quick else 5) for name, (X, y) in sets.items()])


def plant(X, rng, n):
    """Copies of ordinary rows with one to three features pushed past the 99.9th percentile, and which they are."""
    high, median = np.quantile(X, .999, axis=0), np.median(X, axis=0)
    movable = np.where(high > median)[0]
    rows = X[rng.choice(len(X), n, replace=False)].copy()
    causes = np.zeros(rows.shape, bool)
    for row, cause in zip(rows, causes):
        chosen = rng.choice(movable, min(len(movable), rng.integers(1, 4)), replace=False)
        row[chosen] = high[chosen] + rng.uniform(.01, .5, len(chosen)) * (high[chosen] - median[chosen])
        cause[chosen] = True
    return rows, causes


def planted_sets(sets):
    rng = np.random.default_rng(5)
    chosen = {name: X[y == 0] for name, (X, y) in sets.items()}
    chosen["lognormal"] = lognormal(20_000, 3)
    for name, X in chosen.items():
        X = X[rng.permutation(len(X))[:30_000]]
        rows, causes = plant(X, rng, max(60, len(X) // 100))
        yield name, X, rows, causes


def top_three(contributions, causes):
    order = np.argsort(-contributions, axis=1)[:, :3]
    recall = np.mean([cause[o].sum() / cause.sum() for cause, o in zip(causes, order)])
    return recall, np.mean([cause[o[0]] for cause, o in zip(causes, order)])


def explained(command, path, rows, seed, *more):
    given, out = work / "rows.npy", work / "explained.npy"
    np.save(given, rows)
    told = json.loads(ours(command, path, given, out, seed, *more))
    return np.load(out), told["us_per_row"]


def planted(sets):
    say("\nPlanted causes: share in the top three reasons / the first is one; bar .85 in the mean, both voices, <= 50 us a row")
    say(f"{'set':12}{'both':>14}{'forest':>14}{'us a row':>10}")
    both, cases = [], []
    for name, X, rows, causes in planted_sets(sets):
        y = np.r_[np.zeros(len(X), int), np.ones(len(rows), int)]
        path = save(f"planted-{name}", np.vstack([X, rows]), y)
        cases.append((name, path, y, 1 if args.quick else 5))
        reasons, us = explained("reasons", path, rows, 1)
        forest, _ = explained("attributions", path, rows, 1, 100)
        a, b = top_three(reasons, causes), top_three(forest, causes)
        both.append([*a, *b, us])
        say(f"{name:12}{a[0]:8.3f}/{a[1]:.3f}{b[0]:8.3f}/{b[1]:.3f}{us:10.1f}")
    m = np.mean(both, axis=0)
    say(f"{'mean':12}{m[0]:8.3f}/{m[1]:.3f}{m[2]:8.3f}/{m[3]:.3f}{np.max(both, axis=0)[4]:10.1f} {'ok' if m[0] >= .85 else 'MISSED'}")
    FIGURES["planted_causes"] = m.tolist()
    report("Planted few-feature rows, voices alone and together", cases)


def explain(sets):
    say("\nExplanations over 10 seeds: Kendall's tau of the order of features, mean over pairs of seeds; bar .7")
    say("rows: planted; features: all, and those that get a twentieth of the row's contributions or more in either seed")
    say(f"{'set':12}{'both: all':>10}{'large':>8}{'forest 100: all':>17}{'large':>8}{'1000: all':>11}{'large':>8}{'us a row':>10}")
    table = {}
    for name, X, rows, causes in planted_sets(sets):
        path = save(f"planted-{name}", np.vstack([X, rows]), np.r_[np.zeros(len(X), int), np.ones(len(rows), int)])
        rows = rows[:40]
        line = []
        for command, more in (("reasons", ()), ("attributions", (100,)), ("attributions", (1000,))):
            seeds = [explained(command, path, rows, seed * 100_003, *more) for seed in range(3 if args.quick else 10)]
            told = [s[0] for s in seeds]
            every, large = [], []
            for a in range(len(told)):
                for b in range(a):
                    for u, v in zip(told[a], told[b]):
                        every.append(kendalltau(u, v)[0])
                        big = (u >= .05 * u.clip(0).sum()) | (v >= .05 * v.clip(0).sum())
                        if big.sum() > 1:
                            large.append(kendalltau(u[big], v[big])[0])
            line += [np.nanmean(every), np.nanmean(large)]
        table[name] = line + [seeds[0][1]]
        say(f"{name:12}{line[0]:10.3f}{line[1]:8.3f}{line[2]:17.3f}{line[3]:8.3f}{line[4]:11.3f}{line[5]:8.3f}{seeds[0][1]:10.1f}")
    m = np.mean(list(table.values()), axis=0)
    say(f"{'mean':12}{m[0]:10.3f}{m[1]:8.3f}{m[2]:17.3f}{m[3]:8.3f}{m[4]:11.3f}{m[5]:8.3f}")
    FIGURES["tau"] = {k: list(map(float, v)) for k, v in table.items()}


THEIR_JOB = """
import sys, numpy as np
from sklearn.ensemble import IsolationForest
X = np.load(sys.argv[1])['X']
forest = IsolationForest(n_estimators=100, max_samples=256, random_state=1).fit(X)
raw = -forest.score_samples(X)
low, median, high = np.quantile(X, [.05, .5, .95], axis=0)
z = np.sort(np.abs(X - median) / (high - low), axis=1)[:, -3:].mean(1)
bits = sum(-np.log2((np.searchsorted(np.sort(-v), -v, side='right') + .5) / (len(v) + 1)) for v in (raw, z))
"""


def job(sets):
    say("\nOne whole job in a new process: read 50 000 × 60, fit, score all rows by both voices; CPU seconds")
    path = save("job", lognormal(50_000))
    def children():
        used = resource.getrusage(resource.RUSAGE_CHILDREN)
        return used.ru_utime + used.ru_stime
    def run(*command):
        least = 9e9
        for _ in range(3):
            before = children()
            subprocess.check_output(list(map(str, command)))
            least = min(least, children() - before)
        return least
    theirs = run(sys.executable, "-c", THEIR_JOB, path)
    imports = run(sys.executable, "-c", "import numpy, sklearn.ensemble")
    told = json.loads(ours("job", path))
    mine = run(BIN, "evidence", path, work / "evidence.npy", 1)
    inner = told["fit_cpu"] + told["evaluate_cpu"]
    say(f"Python {theirs:.2f} (imports alone {imports:.2f}); ours {mine:.3f} with reading and writing of files, {theirs/mine:.0f}x; "
        f"fit and score alone {inner:.3f}, {theirs/inner:.0f}x; saved model {told['model_bytes']} bytes")
    FIGURES["job"] = [theirs, imports, mine, inner, told["model_bytes"]]


PARTS = {"job": job, "quality": quality, "speed": speed, "seeds": seeds, "json": rescore, "voices": voices,
         "planted": planted, "explain": explain}
BIN = args.binary or str(build())
say(f"scikit-learn {sklearn.__version__}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}, profile {args.profile}")
given = load()
for part in args.parts.split(","):
    PARTS[part](given)
if args.json:
    pathlib.Path(args.json).write_text(json.dumps(FIGURES, indent=1))
