// Single-key shortcuts of a page. They are silent while somebody types, while a dialog or menu is open, and when the
// reader has switched them off; Escape always works.
import { useEffect, useRef } from "react";
import { getPrefs } from "./prefs";

export type KeyMap = Readonly<Record<string, (event: KeyboardEvent) => void>>;

/** How long the first key of a pair (`g o`) waits for the second. */
const PAIR_MS = 1500;

interface First {
  key: string;
  at: number;
}
/** The first key of a pair as the key that is being handled found it, and as it leaves it. */
let found: First | null = null;
let left: First | null = null;

function typing(target: EventTarget | null): boolean {
  return target instanceof HTMLElement && (target.isContentEditable || /^(INPUT|TEXTAREA|SELECT)$/.test(target.tagName)) && !(target instanceof HTMLInputElement && target.type === "checkbox");
}

/** Calls the entry of `map` for a key, for example `j`, `Enter`, `?`, or `g o` for two in a row. */
export function useKeys(map: KeyMap, enabled = true): void {
  const latest = useRef(map);
  useEffect(() => {
    latest.current = map;
  });
  useEffect(() => {
    if (!enabled) return;
    const listener = (event: KeyboardEvent) => {
      if (event.ctrlKey || event.metaKey || event.altKey || event.defaultPrevented) return;
      if (document.querySelector("dialog[open], [role=menu], :popover-open, [role=listbox][data-open]")) return;
      const target = event.target;
      if (typing(target)) return;
      // Enter and the space bar belong to the control that has the focus.
      if ((event.key === "Enter" || event.key === " ") && target instanceof Element && target.closest("button, a, summary, input")) return;
      if (event.key.length === 1 && !getPrefs().shortcuts) return;
      const pair = found && event.timeStamp - found.at < PAIR_MS ? `${found.key} ${event.key}` : null;
      const action = (pair && latest.current[pair]) || latest.current[event.key];
      if (pair && !latest.current[pair]) {
        if (event.key.length === 1) return;
      }
      if (action) {
        event.preventDefault();
        action(event);
      }
    };
    window.addEventListener("keydown", listener);
    return () => window.removeEventListener("keydown", listener);
  }, [enabled]);
}

/**
 * Remembers `g` for pairs. Installed once and before any page listens, so that it sees every key first; not by a timer,
 * which keys that waited for a busy page would overtake.
 */
export function installPairs(): void {
  window.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || typing(event.target) || event.key === "Shift") return;
    found = left;
    left = event.key === "g" && found?.key !== "g" ? { key: "g", at: event.timeStamp } : null;
  });
}

export const SHORTCUTS: readonly { title: string; keys: readonly (readonly [string, string])[] }[] = [
  {
    title: "Everywhere",
    keys: [
      ["/", "search bar"],
      ["?", "this help"],
      ["g o", "overview"],
      ["g t", "triage"],
      ["g r", "requests"],
      ["g a", "audit"],
      ["Escape", "close what is open; leave the search bar"],
    ],
  },
  {
    title: "Lists",
    keys: [
      ["j  k", "next, previous row (also ↓ ↑)"],
      ["Enter", "open the row"],
      ["x", "select the row; X for all rows shown"],
      ["m", "menu of the row's values"],
      ["f", "facets on or off"],
      ["e", "export what is filtered"],
    ],
  },
  {
    title: "Verdicts, on the triage list and on a client",
    keys: [
      ["1", "bot"],
      ["2", "legitimate"],
      ["3", "verified crawler"],
      ["4", "unsure"],
      ["z", "undo the last verdict"],
      ["w", "now what: rules for the selected clients"],
      ["r", "requests of the client"],
    ],
  },
  {
    title: "On the histogram",
    keys: [
      ["← →", "move the cursor"],
      ["Shift ← →", "extend the selection"],
      ["Enter", "zoom to the selection"],
    ],
  },
];
