// Why a client has its score: one sentence a reason, with its voice, the value against the segment, and its share.
import type { Reason } from "../api/types";
import { bits, percentile, value } from "../lib/format";
import { Raw } from "./Raw";
import { VoiceTag, voiceOf } from "./Verdict";

/** The reason that holds all that are not listed. */
export const REST = "~rest";

/** A thin bar of how the contributions of all reasons divide by voice. */
export function VoiceBar({ reasons, max, className = "" }: { reasons: readonly Reason[]; max: number; className?: string }) {
  const sums = new Map<string, number>();
  for (const reason of reasons) if (reason.contribution > 0) sums.set(reason.voice, (sums.get(reason.voice) ?? 0) + reason.contribution);
  return (
    <span aria-hidden="true" className={`flex h-1.5 overflow-hidden rounded-full bg-raised ${className}`}>
      {[...sums].map(([voice, sum]) => (
        <span key={voice} style={{ width: `${Math.min(100, (sum / max) * 100)}%`, background: `var(${voiceOf(voice).color})` }} />
      ))}
    </span>
  );
}

export function ReasonList({ reasons }: { reasons: readonly Reason[] }) {
  const most = Math.max(1, ...reasons.map((reason) => reason.contribution));
  return (
    <ol className="flex flex-col divide-y divide-line">
      {reasons.map((reason) => (
        <li key={`${reason.voice}/${reason.feature}`} className="py-2 first:pt-0 last:pb-0">
          <div className="flex items-start gap-3">
            <p className="min-w-0 flex-1 text-sm">
              <Raw value={reason.text} max={400} />
            </p>
            <span className="num shrink-0 text-xs font-semibold" title="contribution to the evidence, bits">
              {reason.contribution >= 0 ? "+" : "−"}
              {bits(Math.abs(reason.contribution))}
            </span>
          </div>
          <div className="mt-1 flex flex-wrap items-center gap-x-3 gap-y-1 text-2xs text-muted">
            <VoiceTag voice={reason.voice} />
            <span aria-hidden="true" className="h-1.5 w-24 overflow-hidden rounded-full bg-raised">
              <span className="block h-full" style={{ width: `${Math.max(0, (reason.contribution / most) * 100)}%`, background: `var(${voiceOf(reason.voice).color})` }} />
            </span>
            {reason.value !== null && reason.value !== undefined && reason.feature !== REST && (
              <span>
                <span className="num text-text">{value(reason.value)}</span>
                {reason.median !== null && reason.median !== undefined && (
                  <>
                    {" "}
                    against a median of <span className="num text-text">{value(reason.median)}</span>
                  </>
                )}
              </span>
            )}
            <Percentile at={reason.percentile} />
            {reason.source && (
              <span className="basis-full">
                Catalogue: <Raw value={reason.source} max={200} className="num" />
              </span>
            )}
          </div>
        </li>
      ))}
    </ol>
  );
}

/** Where a value lies among the segment: a line with a mark, and the words for it. */
export function Percentile({ at }: { at: number | null | undefined }) {
  if (at === null || at === undefined || !Number.isFinite(at)) return null;
  const extreme = Math.max(at, 100 - at) >= 99;
  return (
    <span className="inline-flex items-center gap-1.5 whitespace-nowrap">
      <span aria-hidden="true" className="relative h-1.5 w-16 rounded-full bg-raised">
        <span className="absolute inset-y-0 left-1/2 w-px bg-line-strong" />
        <span className={`absolute -top-0.5 h-2.5 w-1 -translate-x-1/2 rounded-xs ${extreme ? "bg-warn" : "bg-muted"}`} style={{ left: `${Math.min(98, Math.max(2, at))}%` }} />
      </span>
      {percentile(at)}
    </span>
  );
}
