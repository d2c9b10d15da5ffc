// Short messages at the foot of the page, read out by screen readers; one of them can offer an undo.
import { useSyncExternalStore } from "react";
import { Icon } from "./Icon";

export interface Toast {
  id: number;
  tone: "ok" | "alert" | "info";
  text: string;
  action?: { label: string; run: () => void };
}

let toasts: readonly Toast[] = [];
let nextId = 1;
const listeners = new Set<() => void>();

/** How long a message stays; one that offers an act stays longer, and all can be closed by hand. */
const STAY_MS = { plain: 6000, action: 15000 };

function publish(next: readonly Toast[]): void {
  toasts = next;
  for (const listener of listeners) listener();
}

export function dismiss(id: number): void {
  publish(toasts.filter((one) => one.id !== id));
}

export function toast(message: Omit<Toast, "id">): void {
  const id = nextId;
  nextId += 1;
  publish([...toasts.slice(-2), { ...message, id }]);
  if (message.tone !== "alert") setTimeout(() => dismiss(id), message.action ? STAY_MS.action : STAY_MS.plain);
}

const TONES = { ok: "border-ok text-ok", alert: "border-alert text-alert", info: "border-line-strong text-text" } as const;

export function Toasts() {
  const shown = useSyncExternalStore(
    (listener) => {
      listeners.add(listener);
      return () => listeners.delete(listener);
    },
    () => toasts,
  );
  return (
    <div role="status" aria-live="polite" aria-label="Messages" className="pointer-events-none fixed bottom-4 left-1/2 z-40 flex -translate-x-1/2 flex-col gap-2">
      {shown.map((entry) => (
        <div key={entry.id} className={`pointer-events-auto flex items-center gap-3 rounded-lg border bg-surface px-3 py-2 text-sm shadow-xl ${TONES[entry.tone]}`}>
          <Icon name={entry.tone === "alert" ? "alert" : "check"} />
          <span className="max-w-xl text-text">{entry.text}</span>
          {entry.action && (
            <button
              type="button"
              className="btn btn-sm"
              onClick={() => {
                entry.action?.run();
                dismiss(entry.id);
              }}
            >
              <Icon name="undo" />
              {entry.action.label}
            </button>
          )}
          <button type="button" className="btn btn-quiet btn-sm px-1.5" aria-label="Close message" onClick={() => dismiss(entry.id)}>
            <Icon name="close" />
          </button>
        </div>
      ))}
    </div>
  );
}
