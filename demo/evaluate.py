#!/usr/bin/env python3
# Runs the demo for several seeds and prints where its bots stand in the ranking, who else is above the threshold, and how many alerts a quiet page has.
"""Usage: demo/evaluate.py [--seeds 1-5] [--for 300] [--quiet-for 600] [--only bots|quiet] [--bin target/debug] [--keep DIR]

Each seed is a run of `ja4 up --demo` on a fresh folder and one of `ja4 up --demo --demo-bots 0`. Exit status 0 when every
bot is within the first (bots + 5) clients with a reason that names its cause, nobody's ledger is out of balance, and no
quiet run has an alert.
"""

import argparse
import json
import pathlib
import subprocess
import sys
import tempfile


def run(options, seed, seconds, bots, folder):
    """The summary of one run, and what is out of balance."""
    name = f"seed{seed}-{'quiet' if bots == 0 else 'bots'}"
    summary = folder / f"{name}.json"
    command = [str(options.bin / "ja4"), "up", "--demo", "--seed", str(seed), "--for", f"{seconds}s",
               "--data", str(folder / name), "--summary", str(summary), "--listen", f"127.0.0.1:{options.port}"]
    if bots is not None:
        command += ["--demo-bots", str(bots)]
    with open(folder / f"{name}.log", "wb") as log:
        ended = subprocess.run(command, stdout=log, stderr=log, check=False)
    text = (folder / f"{name}.log").read_text(errors="replace")
    problems = [line.split("PROBLEM: ", 1)[1] for line in text.splitlines() if "PROBLEM: " in line]
    if not summary.exists():
        sys.exit(f"seed {seed} ended with {ended.returncode} and no summary; see {folder / name}.log")
    return json.loads(summary.read_text()), problems


def describe(reasons):
    return reasons[0]["sentence"] if reasons else "no reason"


def report_bots(seed, summary, problems):
    """Prints a seed; whether all went well."""
    truth, found = summary["truth"], summary["detection"]
    print(f"\nseed {seed}: {found['state']}, {found['cycles']} cycles (longest {found['cycle_ms_max']} ms), "
          f"{found['scored']} scored, {found['incidents']} incidents; "
          f"{truth['bots_found']} of {len(truth['bots'])} bots within {truth['places']}")
    for bot in truth["bots"]:
        cause = "cause named" if bot["is_cause_named"] else "cause NOT named"
        print(f"  {bot['rank'] or '-':>4}  {bot['kind']:<17} {bot['evidence_bits']:6.1f} bits  {bot['verdict'] or '-':<8} "
              f"{cause}: {describe(bot['reasons'])}")
    for wronged in truth["wronged"]:
        print(f"  wrong: {wronged['name']} ({wronged['role']}) at {wronged['src_ip']} is {wronged['verdict']} at place "
              f"{wronged['rank']}: {describe(wronged['reasons'])}")
    for problem in problems:
        print(f"  PROBLEM: {problem}")
    return all(bot["is_found"] and bot["is_cause_named"] for bot in truth["bots"]) and not problems


def report_quiet(seed, summary, problems):
    found = summary["detection"]
    print(f"\nseed {seed}, no bots: {found['state']}, {found['cycles']} cycles, {found['scored']} scored, "
          f"{found['flagged']} flagged, {found['alerts']} alerts")
    for wronged in summary["truth"]["wronged"]:
        print(f"  above the threshold: {wronged['name']} ({wronged['role']}) at {wronged['src_ip']}, place "
              f"{wronged['rank']}, {wronged['verdict']}: {describe(wronged['reasons'])}")
    for problem in problems:
        print(f"  PROBLEM: {problem}")
    return found["alerts"] == 0 and not problems


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", default="1-5", help="first-last, or one")
    parser.add_argument("--for", dest="seconds", type=int, default=300, help="seconds with bots")
    parser.add_argument("--quiet-for", type=int, default=600, help="seconds without")
    parser.add_argument("--only", choices=["bots", "quiet"])
    parser.add_argument("--bin", type=pathlib.Path, default=pathlib.Path("target/debug"))
    parser.add_argument("--port", type=int, default=26000, help="base port")
    parser.add_argument("--keep", type=pathlib.Path, help="folder for data, logs and summaries; default: a temporary one")
    options = parser.parse_args()
    first, _, last = options.seeds.partition("-")
    seeds = range(int(first), int(last or first) + 1)
    is_well = True
    with tempfile.TemporaryDirectory(prefix="ja4-demo-evaluate-") as temporary:
        folder = options.keep or pathlib.Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        for seed in seeds:
            if options.only != "quiet":
                is_well &= report_bots(seed, *run(options, seed, options.seconds, None, folder))
                sys.stdout.flush()
            if options.only != "bots":
                is_well &= report_quiet(seed, *run(options, seed, options.quiet_for, 0, folder))
                sys.stdout.flush()
    sys.exit(0 if is_well else 1)


if __name__ == "__main__":
    main()
