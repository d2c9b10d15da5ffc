// A card with a title, for what needs no query of its own.
import type { ReactNode } from "react";

export function Card({ title, children, actions }: { title: string; children: ReactNode; actions?: ReactNode }) {
  return (
    <section aria-label={title} className="card min-w-0 overflow-hidden">
      <header className="flex min-h-9 flex-wrap items-center gap-2 border-b border-line px-3 py-1">
        <h2 className="text-sm font-semibold">{title}</h2>
        <span className="flex-1" />
        {actions}
      </header>
      {children}
    </section>
  );
}
