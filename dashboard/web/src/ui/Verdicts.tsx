// Giving a verdict: keys 1 to 4 or the buttons, a note, undo. One hook for the triage list, its selection and a client.
import { useMutation, useQueryClient } from "@tanstack/react-query";
import { useCallback, useId, useState, type ReactNode } from "react";
import { keyOf, label, undoLabel } from "../api/queries";
import type { ClientKey, Label } from "../api/types";
import { plural } from "../lib/format";
import { usePrefs } from "../lib/prefs";
import { ago, iso, stamp } from "../lib/time";
import { useNow } from "../lib/now";
import { Dialog } from "./Dialog";
import { Icon } from "./Icon";
import { Raw } from "./Raw";
import { reasonOf } from "./States";
import { toast } from "./Toasts";
import { LabelChip, LABELS, verdictText, type LabelName } from "./Verdict";

/** Longest note that the server takes. */
const NOTE_MAX = 2000;

/** The last act of this browser session that can be taken back. */
let lastAct: { id: string; text: string } | null = null;

const EXPIRIES = [
  { text: "for ever", days: 0 },
  { text: "7 days", days: 7 },
  { text: "30 days", days: 30 },
  { text: "90 days", days: 90 },
] as const;

interface Verdicts {
  /** Opens the form for these clients. */
  give: (clients: readonly ClientKey[], verdict: LabelName) => void;
  undo: () => void;
  /** To be placed once on the page. */
  dialog: ReactNode;
}

export function useVerdicts(): Verdicts {
  const queryClient = useQueryClient();
  const [form, setForm] = useState<{ clients: ClientKey[]; verdict: LabelName } | null>(null);

  const refresh = useCallback(() => {
    for (const key of ["clients", "client", "labels", "overview", "group", "audit"]) void queryClient.invalidateQueries({ queryKey: [key] });
  }, [queryClient]);

  const undoing = useMutation({
    mutationFn: (act: { id: string; text: string }) => undoLabel(act.id),
    onSuccess: (done, act) => {
      if (lastAct?.id === act.id) lastAct = null;
      const left = done.left_alone.length;
      toast({ tone: "ok", text: `taken back: ${act.text}${left > 0 ? `; ${plural(left, "client")} left alone, labelled again since` : ""}` });
      refresh();
    },
    onError: (error) => toast({ tone: "alert", text: `could not undo: ${reasonOf(error)}` }),
  });
  const { mutate: runUndo } = undoing;

  const undo = useCallback(() => {
    if (lastAct) runUndo(lastAct);
    else toast({ tone: "info", text: "nothing to undo in this session" });
  }, [runUndo]);

  const give = useCallback((clients: readonly ClientKey[], verdict: LabelName) => {
    if (clients.length > 0) setForm({ clients: clients.map(keyOf), verdict });
  }, []);

  const dialog = form && (
    <VerdictForm
      clients={form.clients}
      verdict={form.verdict}
      onClose={() => setForm(null)}
      onDone={(act) => {
        setForm(null);
        lastAct = act;
        toast({ tone: "ok", text: `${act.text}; the next cycle knows it`, action: { label: "Undo", run: () => runUndo(act) } });
        refresh();
      }}
    />
  );
  return { give, undo, dialog };
}

interface FormProps {
  clients: ClientKey[];
  verdict: LabelName;
  onClose: () => void;
  onDone: (act: { id: string; text: string }) => void;
}

function VerdictForm({ clients, verdict: first, onClose, onDone }: FormProps) {
  const [verdict, setVerdict] = useState<LabelName>(first);
  const [note, setNote] = useState("");
  const [days, setDays] = useState(0);
  const id = useId();
  const save = useMutation({
    mutationFn: () => label(clients, verdict, note.trim(), days > 0 ? iso(Date.now() + days * 86400e3) : null),
    onSuccess: (act) => onDone({ id: act.act_id, text: `${plural(act.changed, "client")} labelled ${verdictText(verdict).toLowerCase()}` }),
  });
  const submit = () => {
    if (!save.isPending) save.mutate();
  };
  const only = clients.length === 1 ? clients[0] : undefined;
  return (
    <Dialog
      title={`Verdict on ${plural(clients.length, "client")}`}
      onClose={onClose}
      footer={
        <>
          <span className="mr-auto text-xs text-muted">
            <kbd className="kbd">Enter</kbd> saves, <kbd className="kbd">Shift Enter</kbd> starts a line
          </span>
          <button type="button" className="btn" onClick={onClose}>
            Cancel
          </button>
          <button type="button" className="btn btn-primary" disabled={save.isPending} onClick={submit}>
            {save.isPending ? "Saving…" : "Save verdict"}
          </button>
        </>
      }
    >
      <form
        className="flex flex-col gap-4"
        onSubmit={(event) => {
          event.preventDefault();
          submit();
        }}
      >
        {only && (
          <p className="num text-xs text-muted">
            <Raw value={only.src_ip} /> · <Raw value={only.ja4} empty="no TLS" /> · <Raw value={only.host} />
          </p>
        )}
        <fieldset className="flex flex-wrap gap-2">
          <legend className="label pb-1">Verdict</legend>
          {LABELS.map((one) => (
            <label key={one.label} className="btn has-checked:border-accent has-checked:bg-accent-soft has-checked:font-semibold has-focus-visible:outline-2 has-focus-visible:outline-accent">
              <input type="radio" name={`${id}-verdict`} className="sr-only" checked={verdict === one.label} onChange={() => setVerdict(one.label)} />
              <Icon name={one.icon} />
              {one.text}
            </label>
          ))}
        </fieldset>
        <label className="flex flex-col gap-1">
          <span className="label">Note: why you say so</span>
          <textarea
            data-autofocus
            className="field h-20 py-1.5"
            maxLength={NOTE_MAX}
            value={note}
            onChange={(event) => setNote(event.target.value)}
            onKeyDown={(event) => {
              if (event.key === "Enter" && !event.shiftKey && !event.nativeEvent.isComposing) {
                event.preventDefault();
                submit();
              }
            }}
          />
        </label>
        <label className="flex items-center gap-2 text-sm">
          Holds
          <select className="field" value={days} onChange={(event) => setDays(Number(event.target.value))}>
            {EXPIRIES.map((one) => (
              <option key={one.days} value={one.days}>
                {one.text}
              </option>
            ))}
          </select>
        </label>
        {save.isError && (
          <p role="alert" className="text-sm text-alert">
            Not saved: {reasonOf(save.error)}
          </p>
        )}
      </form>
    </Dialog>
  );
}

export function VerdictButtons({ clients, onGive, compact = false }: { clients: readonly ClientKey[]; onGive: Verdicts["give"]; compact?: boolean }) {
  return (
    <div role="group" aria-label="Verdict" className="flex flex-wrap gap-1.5">
      {LABELS.map((one) => (
        <button key={one.label} type="button" className="btn btn-sm" disabled={clients.length === 0} onClick={() => onGive(clients, one.label)}>
          <Icon name={one.icon} className="size-3.5" />
          {one.text}
          {!compact && <kbd className="kbd">{one.key}</kbd>}
        </button>
      ))}
    </div>
  );
}

/** The keys of the verdicts for `useKeys`. */
export function verdictKeys(clients: () => readonly ClientKey[], verdicts: Verdicts): Record<string, () => void> {
  return { ...Object.fromEntries(LABELS.map((one) => [one.key, () => verdicts.give(clients(), one.label)])), z: verdicts.undo };
}

/** Who labelled a client, when, why, and whether a cycle knows it already. */
export function LabelLine({ label: given, labelsSeenAt }: { label: Label; labelsSeenAt: string | null | undefined }) {
  const now = useNow();
  const { zone } = usePrefs();
  const known = labelsSeenAt ? Date.parse(given.at) <= Date.parse(labelsSeenAt) : false;
  return (
    <div className="flex flex-col gap-1 text-xs text-muted" data-label={given.label} data-label-known={known}>
      <p className="flex flex-wrap items-center gap-x-2 gap-y-1">
        <LabelChip label={given.label} />
        <span>
          by <Raw value={given.author} className="text-text" />, <time title={stamp(given.at, zone)}>{ago(given.at, now)}</time>
          {given.expires_at ? `, until ${stamp(given.expires_at, zone, "minute")}` : ""}
        </span>
        <span className="inline-flex items-center gap-1">
          <Icon name={known ? "check" : "clock"} className="size-3" />
          {known ? "known to the last cycle" : "waits for the next cycle"}
        </span>
      </p>
      {given.note && (
        <p className="text-text">
          “<Raw value={given.note} max={400} expandable />”
        </p>
      )}
    </div>
  );
}
