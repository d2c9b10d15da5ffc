// Bars or lines over time on uPlot, with a brush that zooms the whole page. With the keyboard it is a slider: arrows
// walk the bars, Shift extends a selection, Enter zooms; the value under the cursor is read out.
import { useEffect, useRef, useState, type KeyboardEvent } from "react";
import uPlot from "uplot";
import "uplot/dist/uPlot.min.css";
import { count, short } from "../lib/format";
import { usePrefs } from "../lib/prefs";
import { iso, stamp, type Zone } from "../lib/time";

export interface Series {
  name: string;
  /** A colour of the theme, for example `--fill-accent`. */
  color: string;
  values: readonly (number | null)[];
}

interface Props {
  label: string;
  /** Starts of the steps, milliseconds since the epoch, ascending. */
  times: readonly number[];
  stepMs: number;
  series: readonly Series[];
  kind?: "bars" | "lines";
  height?: number;
  /** Fixed top of the scale; without it, the largest value. */
  max?: number;
  unit?: string;
  onBrush?: (from: string, to: string) => void;
}

/** Resolves a colour of the theme to what a canvas understands. */
function resolveColor(host: HTMLElement, name: string): string {
  const probe = document.createElement("span");
  probe.style.color = `var(${name})`;
  host.append(probe);
  const color = getComputedStyle(probe).color;
  probe.remove();
  return color;
}

/** Sums from the last series up, so that the first is drawn on top of the others. */
function stack(series: readonly Series[], n: number): (number | null)[][] {
  const sums: number[] = Array.from({ length: n }, () => 0);
  const out: (number | null)[][] = [];
  for (const one of series.toReversed()) {
    for (let i = 0; i < n; i += 1) sums[i] = (sums[i] ?? 0) + (one.values[i] ?? 0);
    out.unshift([...sums]);
  }
  return out;
}

function options(host: HTMLElement, props: Props, zone: Zone, onSelect: (from: number, to: number) => void): uPlot.Options {
  const { series, kind = "bars", height = 120, max, stepMs } = props;
  const muted = resolveColor(host, "--muted");
  const line = resolveColor(host, "--line");
  const font = "11px Inter, system-ui, sans-serif";
  const bars = uPlot.paths.bars?.({ size: [0.8, 64], align: 1 });
  return {
    width: host.clientWidth || 600,
    height,
    legend: { show: false },
    padding: [8, 8, 0, 0],
    cursor: {
      y: false,
      points: { show: kind === "lines" },
      drag: { x: Boolean(props.onBrush), y: false, setScale: false },
    },
    tzDate: (ts) => (zone === "utc" ? uPlot.tzDate(new Date(ts * 1000), "Etc/UTC") : new Date(ts * 1000)),
    scales: {
      x: { time: true, range: (_u, lo, hi) => (kind === "bars" ? [lo, hi + stepMs / 1000] : lo === hi ? [lo - 30, hi + 30] : [lo, hi]) },
      y: { range: (_u, _lo, hi) => [0, max ?? (hi > 0 ? hi * 1.05 : 1)] },
    },
    axes: [
      {
        stroke: muted,
        font,
        size: 24,
        gap: 3,
        grid: { show: false },
        ticks: { stroke: line, size: 4 },
        values: [
          [86400, "{YYYY}-{MM}-{DD}", null, null, null, null, null, null, 1],
          [3600, "{HH}:{mm}", "\n{MM}-{DD}", null, "\n{MM}-{DD}", null, null, null, 1],
          [60, "{HH}:{mm}", "\n{MM}-{DD}", null, "", null, null, null, 1],
          [1, "{HH}:{mm}:{ss}", "\n{MM}-{DD}", null, "", null, null, null, 1],
        ],
      },
      { stroke: muted, font, size: 44, gap: 4, grid: { stroke: line, width: 1 }, ticks: { show: false }, values: (_u, ticks) => ticks.map((tick) => (kind === "bars" && !Number.isInteger(tick) ? "" : short(tick))), space: 28 },
    ],
    series: [
      {},
      ...series.map((one) => {
        const color = resolveColor(host, one.color);
        return kind === "bars" ? { label: one.name, fill: color, width: 0, paths: bars, points: { show: false } } : { label: one.name, stroke: color, width: 2, points: { show: one.values.length < 40, size: 5 } };
      }),
    ],
    hooks: {
      setSelect: [
        (u) => {
          const { left, width } = u.select;
          if (width < 4) return;
          onSelect(u.posToVal(left, "x") * 1000, u.posToVal(left + width, "x") * 1000);
          u.setSelect({ left: 0, top: 0, width: 0, height: 0 }, false);
        },
      ],
    },
  };
}

export function Chart(props: Props) {
  const { label, times, series, kind = "bars", height = 120, stepMs, onBrush, unit = "requests" } = props;
  const { zone, theme } = usePrefs();
  const host = useRef<HTMLDivElement>(null);
  const plot = useRef<uPlot | null>(null);
  const [cursor, setCursor] = useState<number | null>(null);
  const [anchor, setAnchor] = useState<number | null>(null);
  const [scheme, setScheme] = useState(0);

  useEffect(() => {
    const media = matchMedia("(prefers-color-scheme: dark)");
    const changed = () => setScheme((n) => n + 1);
    media.addEventListener("change", changed);
    return () => media.removeEventListener("change", changed);
  }, []);

  // Made anew when the data or the theme changes: cheaper than it sounds, and nothing goes stale.
  useEffect(() => {
    const element = host.current;
    if (!element || times.length === 0) return;
    const select = (from: number, to: number) => {
      if (!onBrush) return;
      const low = Math.floor(from / stepMs) * stepMs;
      const high = Math.ceil(to / stepMs) * stepMs;
      onBrush(iso(low), iso(Math.max(high, low + stepMs)));
    };
    const ys = kind === "bars" ? stack(series, times.length) : series.map((one) => [...one.values]);
    const made = new uPlot(options(element, props, zone, select), [times.map((ms) => ms / 1000), ...ys] as uPlot.AlignedData, element);
    made.over.addEventListener("mousemove", () => setCursor(made.cursor.idx ?? null));
    made.over.addEventListener("mouseleave", () => setCursor(null));
    plot.current = made;
    const resize = new ResizeObserver(() => {
      if (element.clientWidth > 0) made.setSize({ width: element.clientWidth, height });
    });
    resize.observe(element);
    return () => {
      resize.disconnect();
      made.destroy();
      plot.current = null;
    };
    // oxlint-disable-next-line react/exhaustive-deps -- the object of all props is new at every render; these are what it holds
  }, [times, series, kind, height, stepMs, zone, theme, scheme, onBrush]);

  const at = Math.min(cursor ?? times.length - 1, times.length - 1);
  const words = (i: number) => {
    const ms = times[i];
    if (ms === undefined) return "no data";
    const parts = series.map((one) => `${one.name} ${one.values[i] === null || one.values[i] === undefined ? "none" : Number.isInteger(one.values[i]) ? count(one.values[i] as number) : (one.values[i] as number).toFixed(1)}`);
    return `${stamp(ms, zone, stepMs < 60e3 ? "second" : "minute")}: ${parts.join(", ")}`;
  };

  const mark = (from: number, to: number | null) => {
    const u = plot.current;
    const start = times[from];
    if (!u || start === undefined) return;
    u.setCursor({ left: u.valToPos(start / 1000 + (kind === "bars" ? stepMs / 2000 : 0), "x"), top: 10 }, false);
    const other = to === null ? undefined : times[to];
    if (other === undefined) {
      u.setSelect({ left: 0, top: 0, width: 0, height: 0 }, false);
      return;
    }
    const left = u.valToPos(Math.min(start, other) / 1000, "x");
    const right = u.valToPos((Math.max(start, other) + stepMs) / 1000, "x");
    u.setSelect({ left, top: 0, width: right - left, height: u.over.clientHeight }, false);
  };

  const onKey = (event: KeyboardEvent) => {
    const step = event.key === "ArrowLeft" ? -1 : event.key === "ArrowRight" ? 1 : 0;
    if (step !== 0) {
      event.preventDefault();
      const next = Math.max(0, Math.min(times.length - 1, at + step));
      const from = event.shiftKey && onBrush ? (anchor ?? at) : null;
      setAnchor(from);
      setCursor(next);
      mark(next, from);
    } else if (event.key === "Enter" && onBrush) {
      const low = times[Math.min(at, anchor ?? at)];
      const high = times[Math.max(at, anchor ?? at)];
      if (low === undefined || high === undefined) return;
      event.preventDefault();
      setAnchor(null);
      onBrush(iso(low), iso(high + stepMs));
    } else if (event.key === "Escape" && anchor !== null) {
      setAnchor(null);
      mark(at, null);
    }
  };

  if (times.length === 0) return <p className="grid place-items-center text-sm text-muted" style={{ height }}>Nothing in this span.</p>;
  return (
    <div>
      <div
        ref={host}
        role="slider"
        tabIndex={0}
        aria-label={`${label}, ${unit} by time${onBrush ? "; Shift and arrows select, Enter zooms" : ""}`}
        aria-valuemin={0}
        aria-valuemax={times.length - 1}
        aria-valuenow={at}
        aria-valuetext={words(at)}
        onKeyDown={onKey}
        style={{ height }}
      />
      <div className="flex min-h-5 flex-wrap items-center gap-x-3 pl-11 text-2xs text-muted" aria-hidden="true">
        {series.map((one) => (
          <span key={one.name} className="inline-flex items-center gap-1">
            <span className="size-2 rounded-xs" style={{ background: `var(${one.color})` }} />
            {one.name}
          </span>
        ))}
        <span className="num ml-auto text-text">{cursor === null ? "" : words(at)}</span>
      </div>
    </div>
  );
}
