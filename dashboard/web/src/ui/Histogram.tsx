// Requests by time under the filter: the brush drives every panel of the page.
import { useMemo } from "react";
import { plural } from "../lib/format";
import { Chart } from "./Chart";
import type { PageState } from "./Toolbar";

export function Histogram({ data, stale, page }: { data: { points: readonly { t: string; requests: number; errors: number }[]; step_s: number; total: number }; stale: boolean; page: PageState }) {
  const times = useMemo(() => data.points.map((point) => Date.parse(point.t)), [data.points]);
  const series = useMemo(
    () => [
      { name: "answered 400 and above", color: "--fill-warn", values: data.points.map((p) => p.errors) },
      { name: "others", color: "--fill-accent", values: data.points.map((p) => p.requests - p.errors) },
    ],
    [data.points],
  );
  return (
    <div className={stale ? "stale" : ""}>
      <Chart label={`${plural(data.total, "request")}`} times={times} stepMs={data.step_s * 1000} series={series} height={78} onBrush={page.brush} />
    </div>
  );
}
