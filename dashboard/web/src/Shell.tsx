// What is round every page: navigation, state strip, banner, menu of values, help, messages.
import { useQuery, useQueryClient, type UseQueryResult } from "@tanstack/react-query";
import { Link, Outlet, useNavigate, useRouterState, type ErrorComponentProps } from "@tanstack/react-router";
import { useEffect, useRef, useState } from "react";
import { meQuery, statusQuery } from "./api/queries";
import { setCsrf } from "./api/client";
import type { Status } from "./api/types";
import { useKeys } from "./lib/keys";
import { useNow } from "./lib/now";
import { setPrefs, usePrefs, type Prefs } from "./lib/prefs";
import { validateSearch } from "./lib/search";
import { duration, zoneName } from "./lib/time";
import { Account, Help } from "./ui/lazy";
import { Icon, type IconName } from "./ui/Icon";
import { reasonOf } from "./ui/States";
import { StateStrip } from "./ui/StateStrip";
import { Toasts } from "./ui/Toasts";
import { ValueMenuHost } from "./ui/ValueMenu";

const PAGES: readonly { to: string; text: string; icon: IconName }[] = [
  { to: "/", text: "Overview", icon: "overview" },
  { to: "/triage", text: "Triage", icon: "triage" },
  { to: "/requests", text: "Requests", icon: "requests" },
  { to: "/audit", text: "Audit", icon: "audit" },
];

export function Shell() {
  const location = useRouterState({ select: (s) => s.location });
  if (location.pathname === "/login") {
    return (
      <>
        <Outlet />
        <Toasts />
      </>
    );
  }
  return <Inside />;
}

function Inside() {
  const navigate = useNavigate();
  const location = useRouterState({ select: (s) => s.location });
  const me = useQuery(meQuery());
  const status = useQuery({ ...statusQuery(), enabled: me.isSuccess });
  const [help, setHelp] = useState(false);
  const [account, setAccount] = useState(false);
  const main = useRef<HTMLElement>(null);
  const carried = validateSearch(location.search as Record<string, unknown>);
  const keep = { q: carried.q, from: carried.from, to: carried.to };

  if (me.data) setCsrf(me.data.csrf_token);

  // After a change of page the reader starts at its top, with the keyboard as well.
  const path = useRef(location.pathname);
  useEffect(() => {
    if (path.current === location.pathname) return;
    path.current = location.pathname;
    main.current?.focus({ preventScroll: true });
    main.current?.scrollTo(0, 0);
  }, [location.pathname]);

  const go = (to: string) => () => void navigate({ to, search: keep });
  useKeys({ "?": () => setHelp(true), "g o": go("/"), "g t": go("/triage"), "g r": go("/requests"), "g a": go("/audit") });

  if (!me.data && !me.isError) return <div className="grid h-full place-items-center text-muted">Loading…</div>;

  return (
    <div className="grid h-full grid-cols-[3.5rem_1fr] xl:grid-cols-[10.5rem_1fr]">
      <a href="#main" className="btn btn-primary absolute top-1 left-1 z-50 -translate-y-12 focus:translate-y-0" onClick={(event) => {
        event.preventDefault();
        main.current?.focus();
      }}>
        Skip to the content
      </a>
      <nav aria-label="Pages" className="flex flex-col gap-0.5 border-r border-line bg-surface p-2">
        <div className="mb-2 flex h-8 items-center gap-2 px-1.5 xl:px-2">
          <img src="/icon.svg" alt="" className="size-6" />
          <span className="hidden font-semibold tracking-tight xl:inline">ja4-platform</span>
        </div>
        {PAGES.map((page) => (
          <NavLink key={page.to} {...page} search={keep} />
        ))}
        {status.data?.has_truth && <NavLink to="/truth" text="Truth card" icon="truth" search={{}} />}
        <div className="flex-1" />
        <NavLink to="/about" text="About" icon="about" search={{}} />
        <button type="button" className="btn btn-quiet justify-center px-2 xl:justify-start" onClick={() => setHelp(true)}>
          <Icon name="keyboard" />
          <span className="sr-only xl:not-sr-only">Help</span>
          <kbd className="kbd ml-auto hidden xl:inline-block">?</kbd>
        </button>
        <Preferences />
        {me.data && (
          <button type="button" className="btn btn-quiet justify-center px-2 xl:justify-start" title={`${me.data.user}, ${me.data.role}`} onClick={() => setAccount(true)}>
            <Icon name="user" />
            <span className="sr-only xl:hidden">Account</span>
            <span className="hidden truncate xl:inline">{me.data.user}</span>
          </button>
        )}
      </nav>
      <div className="flex min-h-0 min-w-0 flex-col">
        <StateStrip query={status} />
        <StoreBanner query={status} meError={me.isError && !me.data ? me.error : null} />
        <main ref={main} id="main" tabIndex={-1} className="relative flex min-h-0 flex-1 flex-col overflow-auto outline-none">
          <Outlet />
        </main>
      </div>
      <ValueMenuHost />
      <Toasts />
      {account && me.data && <Account me={me.data} onClose={() => setAccount(false)} />}
      {help && <Help onClose={() => setHelp(false)} />}
    </div>
  );
}

function NavLink({ to, text, icon, search }: { to: string; text: string; icon: IconName; search: Record<string, string | undefined> }) {
  return (
    <Link
      to={to}
      search={search}
      title={text}
      activeOptions={{ exact: to === "/", includeSearch: false }}
      className="flex h-8 items-center justify-center gap-2.5 rounded-md px-2 text-sm text-muted hover:bg-raised hover:text-text aria-[current=page]:bg-accent-soft aria-[current=page]:font-semibold aria-[current=page]:text-text xl:justify-start"
    >
      <Icon name={icon} />
      <span className="sr-only xl:not-sr-only">{text}</span>
    </Link>
  );
}

const NEXT_THEME: Readonly<Record<Prefs["theme"], Prefs["theme"]>> = { system: "dark", dark: "light", light: "system" };

function Preferences() {
  const { theme, zone } = usePrefs();
  return (
    <>
      <button type="button" className="btn btn-quiet justify-center px-2 xl:justify-start" title={`Theme: ${theme}`} onClick={() => setPrefs({ theme: NEXT_THEME[theme] })}>
        <Icon name={theme === "light" ? "sun" : "moon"} />
        <span className="sr-only xl:not-sr-only">Theme: {theme}</span>
      </button>
      <button type="button" className="btn btn-quiet justify-center px-2 xl:justify-start" title={`Times in ${zoneName(zone)}`} onClick={() => setPrefs({ zone: zone === "utc" ? "local" : "utc" })}>
        <Icon name="clock" />
        <span className="sr-only xl:not-sr-only">
          Times: {zoneName(zone)}
        </span>
      </button>
    </>
  );
}

/** Says that the store or the dashboard is away, and asks everything anew once it is back. */
function StoreBanner({ query, meError }: { query: UseQueryResult<Status>; meError: unknown }) {
  const queryClient = useQueryClient();
  const now = useNow();
  const away = query.isError || meError !== null || query.data?.store.state === "unreachable";
  const [since, setSince] = useState<number | null>(null);
  if (away !== (since !== null)) setSince(away ? now : null);
  const wasAway = useRef(false);
  useEffect(() => {
    if (wasAway.current && !away) void queryClient.invalidateQueries();
    wasAway.current = away;
  }, [away, queryClient]);
  if (!away) return <div role="status" className="sr-only" />;
  const what = query.isError ? reasonOf(query.error) : meError !== null ? reasonOf(meError) : (query.data?.store.detail ?? "the store does not answer");
  return (
    <div role="status" className="flex items-center gap-2 border-b border-warn/40 bg-warn-soft px-4 py-1.5 text-sm text-warn">
      <Icon name="alert" />
      <span>
        <strong>{query.data?.store.state === "unreachable" && !query.isError ? "Store unreachable" : "Dashboard unreachable"}</strong> for {duration(Math.max(1000, now - (since ?? now)))}: {what}. What is greyed is the last
        that was read; it is tried again every few seconds.
      </span>
    </div>
  );
}

export function NotFound() {
  return (
    <div className="grid flex-1 place-items-center p-8 text-center">
      <div>
        <h1 className="text-lg font-semibold">There is no such page</h1>
        <p className="mt-1 text-muted">
          Go to the{" "}
          <Link to="/" className="link">
            overview
          </Link>
          .
        </p>
      </div>
    </div>
  );
}

export function PageFailed({ error, reset }: ErrorComponentProps) {
  return (
    <div role="alert" className="grid flex-1 place-items-center p-8 text-center">
      <div>
        <h1 className="text-lg font-semibold">This page failed</h1>
        <p className="mt-1 max-w-prose wrap-anywhere text-muted">{error instanceof Error ? error.message : reasonOf(error)}</p>
        <button type="button" className="btn mt-3" onClick={reset}>
          <Icon name="refresh" />
          Try again
        </button>
      </div>
    </div>
  );
}
