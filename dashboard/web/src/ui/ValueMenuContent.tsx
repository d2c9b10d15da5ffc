// The menu of a value: what is in it, and what each entry does.
import { useQuery } from "@tanstack/react-query";
import { useNavigate, useRouterState } from "@tanstack/react-router";
import { DropdownMenu } from "radix-ui";
import { fieldsQuery } from "../api/queries";
import { clause, exclude, include, state } from "../lib/filter";
import { visible } from "../lib/raw";
import { validateSearch, type PageSearch } from "../lib/search";
import { Icon, type IconName } from "./Icon";
import { Raw } from "./Raw";
import { toast } from "./Toasts";
import { fieldName, prefixOf, type Open } from "./ValueMenu";

/** The menu opens under a key as well as under the mouse: Enter takes the first entry at once. */
function focusFirst(menu: HTMLElement | null): void {
  requestAnimationFrame(() => menu?.querySelector<HTMLElement>("[role=menuitem]:not([data-disabled])")?.focus());
}

export default function ValueMenuContent({ subject, rect, origin, onClose }: Open & { onClose: () => void }) {
  const fields = useQuery(fieldsQuery());
  const navigate = useNavigate();
  const location = useRouterState({ select: (s) => s.location });
  const { field, value, client } = subject;
  const search = validateSearch(location.search as Record<string, unknown>);
  const q = search.q ?? "";
  const filters = ["/", "/triage", "/requests"].includes(location.pathname);
  const target = filters ? location.pathname : "/requests";
  const span: PageSearch = { from: search.from, to: search.to };
  const go = (to: string, next: PageSearch) => void navigate({ to, search: { ...span, ...next } });
  const filter = (next: string) => go(target, { ...(filters ? search : {}), ...span, q: next, sel: undefined, by: undefined });
  const is = filters ? state(q, field, value) : "none";
  const where = filters ? "" : " in requests";
  const kind = fields.data?.fields.find((one) => one.name === field)?.group_kind;
  const group = subject.group ?? (kind && { kind, value });
  const prefix = field === "src_ip" ? prefixOf(value) : null;

  return (
    <DropdownMenu.Root open modal={false} onOpenChange={(next) => !next && onClose()}>
      <DropdownMenu.Trigger asChild>
        <span aria-hidden="true" tabIndex={-1} className="pointer-events-none fixed" style={{ left: rect.left, top: rect.top, width: Math.min(rect.width, 300), height: rect.height }} />
      </DropdownMenu.Trigger>
      <DropdownMenu.Portal container={origin.closest("dialog") ?? document.getElementById("main")}>
        <DropdownMenu.Content
          ref={focusFirst}
          className="menu max-w-96"
          align="start"
          sideOffset={4}
          collisionPadding={8}
          aria-label={`${fieldName(field)} ${visible(value, 60)}`}
          onCloseAutoFocus={(event) => {
            event.preventDefault();
            if (origin.isConnected) origin.focus();
          }}
        >
          <DropdownMenu.Label className="border-b border-line px-2 pt-1 pb-1.5 text-xs text-muted">
            {fieldName(field)} <Raw value={value} max={90} className="num text-text" />
          </DropdownMenu.Label>
          <div className="h-1" />
          <Item icon="plus" label={is === "included" ? "Included already" : `Include${where}`} disabled={is === "included"} onSelect={() => filter(include(q, field, value))} />
          <Item icon="minus" label={is === "excluded" ? "Excluded already" : `Exclude${where}`} disabled={is === "excluded"} onSelect={() => filter(exclude(q, field, value))} />
          <Item icon="only" label={`Only this${where}`} onSelect={() => filter(clause(field, value))} />
          <Item icon="group" label={`Group requests by ${fieldName(field)}`} onSelect={() => go("/requests", { q: filters ? q : clause(field, value), by: field })} />
          <DropdownMenu.Separator className="my-1 h-px bg-line" />
          {client && <Item icon="open" label="Open client" onSelect={() => go("/client", client)} />}
          {group && <Item icon="open" label={`Open ${fieldName(field)} page`} onSelect={() => go("/group", group)} />}
          {prefix && <Item icon="open" label={`Open network ${prefix}`} onSelect={() => go("/group", { kind: "prefix", value: prefix })} />}
          <Item icon="requests" label="Show its requests" onSelect={() => go("/requests", { q: clause(field, value) })} />
          <Item
            icon="copy"
            label="Copy"
            onSelect={() => {
              navigator.clipboard.writeText(value).then(
                () => toast({ tone: "ok", text: `copied the ${fieldName(field)}` }),
                () => toast({ tone: "alert", text: "the browser did not let this page write to the clipboard" }),
              );
            }}
          />
        </DropdownMenu.Content>
      </DropdownMenu.Portal>
    </DropdownMenu.Root>
  );
}

function Item({ icon, label, onSelect, disabled = false }: { icon: IconName; label: string; onSelect: () => void; disabled?: boolean }) {
  return (
    <DropdownMenu.Item className="menu-item data-[disabled]:text-muted" disabled={disabled} onSelect={onSelect}>
      <Icon name={icon} className="text-muted" />
      {label}
    </DropdownMenu.Item>
  );
}
