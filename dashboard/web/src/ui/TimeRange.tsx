// The time range of a page: relative and absolute, in the zone that is shown.
import { useState } from "react";
import { usePrefs } from "../lib/prefs";
import { fromField, iso, PRESETS, rangeLabel, resolveRange, toField, zoneName, type Range } from "../lib/time";
import { Icon } from "./Icon";
import { Pop } from "./Pop";

export function TimeRange({ range, onChange }: { range: Range; onChange: (range: Range) => void }) {
  const { zone } = usePrefs();
  const text = rangeLabel(range, zone);
  return (
    <Pop
      triggerClass="btn shrink-0"
      name={`Time range: ${text}`}
      label="Time range"
      align="end"
      className="w-[30rem] max-w-[95vw] p-0"
      trigger={
        <>
          <Icon name="clock" className="text-muted" />
          <span>{text}</span>
          <Icon name="chevron" className="text-muted" />
        </>
      }
    >
      {(close) => (
        <Choices
          range={range}
          onChange={(next) => {
            close();
            onChange(next);
          }}
        />
      )}
    </Pop>
  );
}

function Choices({ range, onChange }: { range: Range; onChange: (range: Range) => void }) {
  const { zone } = usePrefs();
  const [from, setFrom] = useState(() => toField(Date.parse(resolveRange(range, Date.now()).from), zone));
  const [to, setTo] = useState(() => toField(Date.parse(resolveRange(range, Date.now()).to), zone));
  const [error, setError] = useState("");
  return (
    <div className="grid grid-cols-[9rem_1fr]">
      <div role="group" aria-label="Relative" className="flex flex-col border-r border-line p-2">
        <span className="label px-2 pb-1">Relative</span>
        {PRESETS.map((preset) => {
          const current = range.from === preset.from && range.to === "now";
          return (
            <button
              key={preset.from}
              type="button"
              aria-pressed={current}
              className={`flex h-8 items-center gap-2 rounded px-2 text-left hover:bg-raised ${current ? "bg-accent-soft font-semibold" : ""}`}
              onClick={() => onChange({ from: preset.from, to: "now" })}
            >
              {preset.label}
              {current && <Icon name="check" className="ml-auto" />}
            </button>
          );
        })}
      </div>
      <form
        className="flex flex-col gap-2 p-3"
        onSubmit={(event) => {
          event.preventDefault();
          const start = fromField(from, zone);
          const end = fromField(to, zone);
          if (start === null || end === null) setError("both ends need a date and a time");
          else if (start >= end) setError("the start must lie before the end");
          else onChange({ from: iso(start), to: iso(end) });
        }}
      >
        <span className="label">Absolute, {zoneName(zone)}</span>
        <label className="flex flex-col gap-1 text-xs text-muted">
          From
          <input type="datetime-local" step="1" className="field text-text" value={from} onChange={(e) => setFrom(e.target.value)} aria-describedby={error ? "range-error" : undefined} />
        </label>
        <label className="flex flex-col gap-1 text-xs text-muted">
          To
          <input type="datetime-local" step="1" className="field text-text" value={to} onChange={(e) => setTo(e.target.value)} aria-describedby={error ? "range-error" : undefined} />
        </label>
        {error && (
          <p id="range-error" role="alert" className="text-xs text-alert">
            {error}
          </p>
        )}
        <button type="submit" className="btn btn-primary mt-1">
          Apply
        </button>
      </form>
    </div>
  );
}
