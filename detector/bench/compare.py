# Runs the detector's bench beside the same work in Python and prints both and the ratio of their processor time.
#   cargo build --release -p detector && python detector/bench/compare.py [--clients 50000] [--programs target/release]
# Needs numpy and scikit-learn. Each is run three times; the least counts, as noise only ever slows down.
import argparse
import json
import os
import pathlib
import re
import subprocess
import sys
import tempfile

HERE = pathlib.Path(__file__).resolve().parent
parser = argparse.ArgumentParser()
parser.add_argument("--clients", type=int, default=50_000)
parser.add_argument("--programs", default=str(HERE.parent.parent / "target/release"))
parser.add_argument("--explained", type=int, action="append", help="clients explained feature by feature; default: 500, then all")
parser.add_argument("--loops", type=int, default=3)
options = parser.parse_args()
columns = re.findall(r"AS f_(\w+)", (HERE.parent.parent / "schema/queries/features_window.sql").read_text())
environment = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}


def least(command):
    runs = [json.loads(subprocess.run(command, check=True, capture_output=True, text=True, env=environment).stdout)
            for _ in range(options.loops)]
    return min(runs, key=lambda run: run["cpu_ms"])


def compare(folder, explained):
    bench = str(pathlib.Path(options.programs) / "detector-bench")
    ours = least([bench, "score", folder, "--explained", str(explained)])
    python = least([sys.executable, str(HERE / "same_in_python.py"), folder, ",".join(columns), str(explained)])
    print("detector:", json.dumps(ours))
    print("python:  ", json.dumps(python))
    print(f"{explained} explained, processor time: {ours['cpu_ms']:.0f} ms against {python['cpu_with_imports_ms']:.0f} ms with imports "
          f"({python['cpu_ms']:.0f} ms without): {python['cpu_with_imports_ms'] / ours['cpu_ms']:.1f} times less "
          f"({python['cpu_ms'] / ours['cpu_ms']:.1f} times); memory {ours['peak_mb']:.0f} MB against {python['peak_mb']:.0f} MB")


with tempfile.TemporaryDirectory() as folder:
    subprocess.run([str(pathlib.Path(options.programs) / "detector-bench"), "make", folder, "--clients", str(options.clients)], check=True)
    for explained in options.explained or [500, options.clients]:
        compare(folder, explained)
