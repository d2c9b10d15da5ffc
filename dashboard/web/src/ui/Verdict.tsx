// Verdicts, labels and states as chips: always a word and an icon, colour only helps.
import { Icon, type IconName } from "./Icon";

interface Look {
  text: string;
  icon: IconName;
  tone: string;
}

const LOOKS: Readonly<Record<string, Look>> = {
  alert: { text: "Alert", icon: "alert", tone: "bg-alert-soft text-alert" },
  flagged: { text: "Flagged", icon: "alert", tone: "bg-warn-soft text-warn" },
  normal: { text: "Normal", icon: "check", tone: "bg-raised text-muted" },
  unscored: { text: "Not scored", icon: "clock", tone: "bg-raised text-muted" },
  bot: { text: "Bot", icon: "bot", tone: "bg-alert-soft text-alert" },
  legitimate: { text: "Legitimate", icon: "person", tone: "bg-ok-soft text-ok" },
  verified_crawler: { text: "Verified crawler", icon: "crawler", tone: "bg-accent-soft text-accent" },
  unsure: { text: "Unsure", icon: "question", tone: "bg-raised text-text" },
};

export function verdictText(verdict: string): string {
  return LOOKS[verdict]?.text ?? verdict.replaceAll("_", " ");
}

export function VerdictChip({ verdict }: { verdict: string }) {
  const look = LOOKS[verdict] ?? { text: verdictText(verdict), icon: "question" as const, tone: "bg-raised text-text" };
  return (
    <span className={`chip ${look.tone}`}>
      <Icon name={look.icon} className="size-3" />
      {look.text}
    </span>
  );
}

/** A label that an analyst gave, marked as theirs. */
export function LabelChip({ label }: { label: string }) {
  const look = LOOKS[label] ?? { text: verdictText(label), icon: "question" as const, tone: "bg-raised text-text" };
  return (
    <span className={`chip border border-current ${look.tone}`} title="label of an analyst">
      <Icon name={look.icon} className="size-3" />
      <span className="sr-only">labelled </span>
      {look.text}
    </span>
  );
}

/** The verdicts that an analyst can give, in the order of their keys. */
export const LABELS = [
  { label: "bot", key: "1", text: "Bot", icon: "bot" },
  { label: "legitimate", key: "2", text: "Legitimate", icon: "person" },
  { label: "verified_crawler", key: "3", text: "Verified crawler", icon: "crawler" },
  { label: "unsure", key: "4", text: "Unsure", icon: "question" },
] as const satisfies readonly { label: string; key: string; text: string; icon: IconName }[];

export type LabelName = (typeof LABELS)[number]["label"];

export const STATE_TEXT: Readonly<Record<string, string>> = {
  learning: "Learning",
  provisional: "Provisional",
  armed: "Armed",
};

export const STATE_HELP: Readonly<Record<string, string>> = {
  learning: "too little traffic seen to know what is normal: only contradictions of identity count, and the forest raises no alert",
  provisional: "clients are ranked, and the forest raises no alert yet",
  armed: "clients above the threshold are flagged, and alerts are raised within the budget",
};

/** Marks what was recorded earlier and replayed; `compact` shows the icon alone where room is short. */
export function RecordedChip({ what = "recorded earlier and replayed", compact = false }: { what?: string; compact?: boolean }) {
  return (
    <span className="chip bg-accent-soft text-accent" title={what}>
      <Icon name="rewind" className="size-3" />
      <span className={compact ? "sr-only" : ""}>Recorded</span>
    </span>
  );
}

export const VOICES: Readonly<Record<string, { text: string; color: string; help: string }>> = {
  consistency: { text: "Consistency", color: "--consistency", help: "what the client claims against what it shows" },
  forest: { text: "Forest", color: "--forest", help: "how easily the client is isolated from its segment" },
  robust_z: { text: "Robust z", color: "--robust-z", help: "the most extreme features against the median of the segment" },
  group: { text: "Group", color: "--group", help: "what clients that share a network, fingerprint or header order do together" },
};

export function voiceOf(voice: string) {
  return VOICES[voice] ?? { text: voice.replaceAll("_", " "), color: "--fill-rest", help: "" };
}

export function VoiceTag({ voice }: { voice: string }) {
  const look = voiceOf(voice);
  return (
    <span className="inline-flex items-center gap-1 text-2xs font-semibold whitespace-nowrap text-muted" title={look.help}>
      <span aria-hidden="true" className="size-2 rounded-xs" style={{ background: `var(${look.color})` }} />
      {look.text}
    </span>
  );
}
