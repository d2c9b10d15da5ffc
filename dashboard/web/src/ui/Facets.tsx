// The column of facets: the most frequent values of each field under the present filter, one press to include or exclude.
import { useQuery } from "@tanstack/react-query";
import { useState } from "react";
import { facetsQuery } from "../api/queries";
import type { Facet } from "../api/types";
import { exclude, include, state } from "../lib/filter";
import { count, percent } from "../lib/format";
import { Icon } from "./Icon";
import { Raw } from "./Raw";
import { Body, Cut } from "./States";
import type { PageState } from "./Toolbar";
import { fieldName, Value } from "./ValueMenu";

/** Values shown of a field before "more". */
const SHOWN = 5;

export function Facets({ page }: { page: PageState }) {
  const query = useQuery(facetsQuery(page.q, page.range));
  return (
    <aside aria-label="Facets" className="w-60 shrink-0 overflow-auto border-r border-line bg-surface">
      <Body query={query} rows={14}>
        {(data) => (
          <>
            {data.facets.map((facet) => (
              <FacetSection key={facet.field} field={facet.field} values={facet.values} more={facet.more} page={page} />
            ))}
            {data.facets.every((facet) => facet.values.length === 0) && <p className="p-3 text-sm text-muted">No requests in this span to count.</p>}
            <Cut truncated={data.truncated} what="values" />
          </>
        )}
      </Body>
    </aside>
  );
}

function FacetSection({ field, values, more, page }: Pick<Facet, "field" | "values" | "more"> & { page: PageState }) {
  const [all, setAll] = useState(false);
  if (values.length === 0) return null;
  const total = values.reduce((sum, one) => sum + one.requests, 0);
  const shown = all ? values : values.slice(0, SHOWN);
  const filter = (q: string) => page.set({ q: q || undefined, sel: undefined });
  return (
    <section aria-label={fieldName(field)} className="border-b border-line px-2 py-2">
      <h2 className="label px-1 pb-1">{fieldName(field)}</h2>
      <ul>
        {shown.map((one) => {
          const is = state(page.q, field, one.value);
          return (
            <li key={one.value} className="group relative flex min-h-6 items-center gap-1 rounded px-1 text-xs hover:bg-raised">
              <span aria-hidden="true" className="absolute inset-y-0.5 left-0 rounded bg-accent-soft" style={{ width: `${total > 0 ? (one.requests / total) * 100 : 0}%` }} />
              <span className="relative min-w-0 flex-1 truncate">
                <Value field={field} value={one.value} name={one.name} max={60} className={`num truncate ${is === "excluded" ? "line-through" : ""} ${is === "included" ? "font-semibold" : ""}`} />
              </span>
              <span className="num relative text-muted group-focus-within:hidden group-hover:hidden" title={`${count(one.requests)} requests, ${percent(total > 0 ? one.requests / total : 0)} of those listed; ${count(one.errors)} of them answered 400 and above; about ${count(one.clients)} addresses`}>
                {count(one.requests)}
              </span>
              <span className="relative hidden group-focus-within:flex group-hover:flex">
                <Small label={`Include ${fieldName(field)}`} value={one.value} icon="plus" onClick={() => filter(include(page.q, field, one.value))} />
                <Small label={`Exclude ${fieldName(field)}`} value={one.value} icon="minus" onClick={() => filter(exclude(page.q, field, one.value))} />
              </span>
            </li>
          );
        })}
      </ul>
      {more && all && <p className="px-1 text-2xs text-muted">There are more than these.</p>}
      {values.length > SHOWN && (
        <button type="button" className="link min-h-6 px-1 text-xs" aria-expanded={all} onClick={() => setAll(!all)}>
          {all ? "fewer" : `${values.length - SHOWN} more`}
        </button>
      )}
    </section>
  );
}

function Small({ label, value, icon, onClick }: { label: string; value: string; icon: "plus" | "minus"; onClick: () => void }) {
  return (
    <button type="button" className="grid size-6 place-items-center rounded text-muted hover:bg-surface hover:text-text" title={label} onClick={onClick}>
      <Icon name={icon} className="size-3.5" />
      <span className="sr-only">
        {label} <Raw value={value} max={60} />
      </span>
    </button>
  );
}
