// Whether the column of facets is shown: kept as a preference on wide windows, asked for anew on narrow ones.
import { useState, useSyncExternalStore } from "react";
import { setPrefs, usePrefs } from "../lib/prefs";

/** From here on there is room for facets, a list and a side panel. */
const WIDE = "(min-width: 1280px)";

export function useFacets(): { shown: boolean; toggle: () => void } {
  const prefs = usePrefs();
  const wide = useSyncExternalStore(
    (listener) => {
      const media = matchMedia(WIDE);
      media.addEventListener("change", listener);
      return () => media.removeEventListener("change", listener);
    },
    () => matchMedia(WIDE).matches,
  );
  const [narrow, setNarrow] = useState(false);
  return wide ? { shown: prefs.facets, toggle: () => setPrefs({ facets: !prefs.facets }) } : { shown: narrow, toggle: () => setNarrow(!narrow) };
}
