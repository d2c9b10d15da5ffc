// The strip on top of every page: how far the detector is, its last cycle, the alert budget, the store, the recording.
import type { UseQueryResult } from "@tanstack/react-query";
import type { Status } from "../api/types";
import { count, plural } from "../lib/format";
import { useNow } from "../lib/now";
import { usePrefs } from "../lib/prefs";
import { ago, duration, stamp } from "../lib/time";
import { Icon, type IconName } from "./Icon";
import { Pop } from "./Pop";
import { Raw } from "./Raw";
import { RecordedChip, STATE_HELP, STATE_TEXT } from "./Verdict";

const LOOK: Readonly<Record<string, { icon: IconName; tone: string }>> = {
  waiting: { icon: "clock", tone: "bg-raised text-muted" },
  learning: { icon: "clock", tone: "bg-accent-soft text-accent" },
  provisional: { icon: "question", tone: "bg-warn-soft text-warn" },
  armed: { icon: "shield", tone: "bg-ok-soft text-ok" },
};

const part = (seen: number, needed: number) => (needed > 0 ? Math.min(1, seen / needed) : 1);

/** How far `learning` is, 0 to 1: the slower of what is counted. */
export function learned(progress: NonNullable<Status["progress"]>): number {
  return Math.min(part(progress.entities_ready, progress.entities_needed), part(progress.minutes_seen, progress.minutes_needed));
}

export function StateStrip({ query }: { query: UseQueryResult<Status> }) {
  const now = useNow();
  const status = query.data;
  if (!status) {
    return (
      <div role="region" aria-label="Pipeline state" className="flex h-8 items-center gap-4 border-b border-line bg-surface px-4 text-xs text-muted">
        {query.isError ? "State unknown" : "Asking for the state…"}
      </div>
    );
  }
  // Without the store the answer knows nothing of the detector: what it then says of it is no news.
  const isUnknown = status.store.state === "unreachable";
  const look = (isUnknown ? undefined : LOOK[status.state]) ?? { icon: "question" as const, tone: "bg-raised text-muted" };
  const cycle = status.last_cycle;
  // The server's clock counts, not the reader's: the age it gave plus the time since then.
  const sinceAnswer = Math.max(0, now - query.dataUpdatedAt);
  const away = query.isError || status.store.state === "unreachable";
  return (
    <div role="region" aria-label="Pipeline state" className="flex min-h-8 flex-wrap items-center gap-x-4 gap-y-0.5 border-b border-line bg-surface px-4 py-0.5 text-xs">
      <Pop
        triggerClass={`chip min-h-6 ${look.tone}`}
        triggerData={{ "data-state-chip": status.state }}
        label="State of the detector"
        className="w-96 max-w-[95vw] p-3"
        trigger={
          <>
            <Icon name={look.icon} className="size-3.5" />
            {isUnknown ? "State unknown" : (STATE_TEXT[status.state] ?? "Waiting")}
            <Icon name="chevron" className="size-3" />
          </>
        }
      >
        {() => (isUnknown ? <p className="text-sm">the state of the detector is in the store, which does not answer</p> : <Details status={status} />)}
      </Pop>
      {status.progress && status.state === "learning" && (
        <span className="flex items-center gap-2">
          <span
            role="progressbar"
            aria-label="Learning"
            aria-valuemin={0}
            aria-valuemax={100}
            aria-valuenow={Math.round(learned(status.progress) * 100)}
            className="h-1.5 w-20 overflow-hidden rounded-full bg-raised"
          >
            <span className="block h-full bg-accent" style={{ width: `${learned(status.progress) * 100}%` }} />
          </span>
          <span className="text-muted">
            {count(Math.floor(status.progress.entities_ready))} of {count(status.progress.entities_needed)} clients, {count(Math.floor(status.progress.minutes_seen))} of {count(status.progress.minutes_needed)} min
          </span>
        </span>
      )}
      <span className={status.stale || cycle?.error ? "text-warn" : "text-muted"} data-cycle={cycle?.started_at ?? ""} data-labels-seen={cycle?.labels_seen_at ?? ""}>
        {(status.stale || cycle?.error) && <Icon name="alert" className="mr-1 inline size-3.5" />}
        {cycle ? (
          <>
            Last cycle <span className="num text-text">{ago(now - cycle.age_s * 1000 - sinceAnswer, now)}</span>
            {cycle.error ? ", failed" : status.stale ? ", overdue" : ""}
          </>
        ) : away ? (
          "Last cycle unknown"
        ) : (
          "No cycle yet"
        )}
      </span>
      {!isUnknown && (
        <span className="text-muted">
          Alert budget{" "}
          <span className={`num ${status.budget_used >= status.budget && status.budget > 0 ? "text-warn" : "text-text"}`}>
            {count(status.budget_used)} of {count(status.budget)}
          </span>{" "}
          today
        </span>
      )}
      <span className={`inline-flex items-center gap-1 ${away ? "text-warn" : "text-muted"}`}>
        <Icon name={away ? "alert" : "check"} className="size-3.5" />
        Store {away ? "unreachable" : "ok"}
      </span>
      <span className="flex-1" />
      {status.recorded && <Recorded recorded={status.recorded} />}
    </div>
  );
}

function Recorded({ recorded }: { recorded: NonNullable<Status["recorded"]> }) {
  const { zone } = usePrefs();
  return (
    <span className="flex min-w-0 items-center gap-1.5 text-muted">
      <RecordedChip what={recorded.what} />
      <span className="truncate" title={recorded.what}>
        {stamp(recorded.from, zone, "minute", false)} – {stamp(recorded.to, zone, "minute")}
      </span>
    </span>
  );
}

function Details({ status }: { status: Status }) {
  const { zone } = usePrefs();
  const cycle = status.last_cycle;
  return (
    <div className="flex flex-col gap-3 text-xs">
      <p className="text-sm">{STATE_HELP[status.state] ?? "the detector has not run a cycle yet"}</p>
      {Object.keys(status.model_states).length > 0 && (
        <table className="w-full">
          <caption className="label pb-1 text-left">Models</caption>
          <tbody>
            {Object.entries(status.model_states).map(([name, state]) => (
              <tr key={name} className="border-t border-line">
                <th scope="row" className="num py-1 text-left font-normal">
                  <Raw value={name} />
                </th>
                <td className="py-1 text-right">{STATE_TEXT[state] ?? state}</td>
              </tr>
            ))}
          </tbody>
        </table>
      )}
      {cycle && (
        <div>
          <p className="label pb-1">Last cycle</p>
          <p>
            {stamp(cycle.started_at, zone)}, took {duration(cycle.duration_ms)}
            {status.cycle_interval_s ? `, every ${duration(status.cycle_interval_s * 1000)}` : ""}
          </p>
          <p className="text-muted">
            {plural(cycle.entities, "client")} seen, {count(cycle.scored)} scored, {count(cycle.flagged)} flagged, {plural(cycle.alerts, "alert")}
            {cycle.suppressed > 0 ? `, ${count(cycle.suppressed)} above the threshold but beyond the budget` : ""}
          </p>
          {cycle.error && (
            <p className="text-alert">
              Failed: <Raw value={cycle.error} max={300} />
            </p>
          )}
        </div>
      )}
      <p className="text-muted">The budget is a ceiling of new incidents in 24 hours, never a quota: without evidence there is no alert.</p>
    </div>
  );
}
