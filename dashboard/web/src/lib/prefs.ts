// What one reader prefers: theme, zone, shortcuts, panels. Kept in this browser only; the URL holds everything else.
import { useSyncExternalStore } from "react";
import type { Zone } from "./time";

export interface Prefs {
  theme: "system" | "dark" | "light";
  zone: Zone;
  /** Single-key shortcuts; a reader who speaks to the browser switches them off. */
  shortcuts: boolean;
  facets: boolean;
}

const KEY = "ja4-prefs";
const DEFAULTS: Prefs = { theme: "system", zone: "local", shortcuts: true, facets: true };

function load(): Prefs {
  try {
    const stored: unknown = JSON.parse(localStorage.getItem(KEY) ?? "{}");
    if (typeof stored !== "object" || stored === null) return DEFAULTS;
    const prefs = { ...DEFAULTS, ...stored };
    if (!["system", "dark", "light"].includes(prefs.theme)) prefs.theme = "system";
    if (!["local", "utc"].includes(prefs.zone)) prefs.zone = "local";
    return prefs;
  } catch {
    // A browser without storage, or with something else stored here: the defaults do.
    return DEFAULTS;
  }
}

let prefs = load();
const listeners = new Set<() => void>();

export function setPrefs(change: Partial<Prefs>): void {
  prefs = { ...prefs, ...change };
  try {
    localStorage.setItem(KEY, JSON.stringify(prefs));
  } catch {
    // Not kept then, only used.
  }
  applyTheme();
  for (const listener of listeners) listener();
}

export function getPrefs(): Prefs {
  return prefs;
}

export function usePrefs(): Prefs {
  return useSyncExternalStore(
    (listener) => {
      listeners.add(listener);
      return () => listeners.delete(listener);
    },
    () => prefs,
  );
}

/** Puts the theme on the page; `system` leaves it to the browser. */
export function applyTheme(): void {
  if (prefs.theme === "system") document.documentElement.removeAttribute("data-theme");
  else document.documentElement.dataset.theme = prefs.theme;
}
